"""The attack of one ATD training step: the published way, single gains, and this package's.

    python -m benchmarks.attack --output docs/performance/attack.cpu.json

ID images are moved to raise the OOD logit and as many outliers to lower it, by PGD-10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atd.training.adversarial_gan import AdversarialGan
from benchmarks.command import Setting, command, parser
from benchmarks.published import PublishedAtd
from benchmarks.reference import reference_attack
from benchmarks.rows import ATD_ROWS, AtdRow
from benchmarks.timing import Step
from benchmarks.workbench import atd_task, contiguous, first_batch

__all__ = ["build", "published_of"]


def main() -> None:
    command("attack", ATD_ROWS, build, parser(__doc__ or ""))


def build(name: str, setting: Setting) -> Step:
    """The attack of a row on the first batch of the training."""
    row = ATD_ROWS[name]
    task = atd_task(setting.config(row.options))
    (inliers, _), (outliers, _) = first_batch(task)
    if name == "reference":
        assert setting.reference is not None
        return reference_attack(setting.reference, task, contiguous(inliers), contiguous(outliers))
    if row.gains is None:
        return lambda: task._attacked(0, inliers, outliers)
    published = published_of(task, row)
    one, other, noise = contiguous(inliers), contiguous(outliers), _noise(inliers)
    return lambda: published.attack(one, other, noise)


def published_of(task: AdversarialGan, row: AtdRow) -> PublishedAtd:
    """The published step on copies of a task's networks."""
    assert row.gains is not None
    assert task.generator is not None
    config = task.config
    return PublishedAtd(
        task.detector,
        task.generator,
        epsilon=config.epsilon,
        steps=config.steps,
        latent=config.latent_dim,
        gains=row.gains,
    )


def _noise(inliers: Tensor) -> Tensor:
    return 2 * torch.rand(2 * len(inliers), *inliers.shape[1:], device=inliers.device) - 1


if __name__ == "__main__":
    main()

"""The attack of one ATD training step: the published way, and this package's.

    python -m benchmarks.attack --output docs/performance/attack.cpu.json

ID images are moved to raise the OOD logit and as many outliers to lower it, by PGD-10.
"""

from __future__ import annotations

import torch

from atd.training.adversarial_gan import AdversarialGan
from benchmarks.published import PublishedAtd
from benchmarks.speed import OURS, PUBLISHED, Row, Setting, command, parser
from benchmarks.timing import Step
from benchmarks.workbench import atd_task, first_batch

__all__ = ["ROWS", "build", "published_of"]

_FEWER = ("run.precision=bfloat16", "atd.attack_start=carried")
ROWS = {
    **PUBLISHED,
    **OURS,
    "ours, bfloat16, carried start, K = 3": Row(options=(*_FEWER, "atd.steps=3")),
}


def main() -> None:
    command("attack", ROWS, build, parser(__doc__ or ""))


def build(name: str, setting: Setting) -> Step:
    """The attack of a row on the first batch of the training."""
    row = ROWS[name]
    task = atd_task(setting.config(row.options))
    (inliers, _), (outliers, _) = first_batch(task)
    if not row.published:
        return lambda: task._attacked(0, inliers, outliers)
    published = published_of(task, row)
    noise = 2 * torch.rand(2 * len(inliers), *inliers.shape[1:], device=inliers.device) - 1
    return lambda: published.attack(inliers, outliers, noise)


def published_of(task: AdversarialGan, row: Row) -> PublishedAtd:
    """The published step on copies of a task's networks."""
    assert task.generator is not None
    config = task.config
    return PublishedAtd(
        task.detector,
        task.generator,
        epsilon=config.epsilon,
        steps=config.steps,
        latent=config.latent_dim,
        spare=row.spare,
    )


if __name__ == "__main__":
    main()

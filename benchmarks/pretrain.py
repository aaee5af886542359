"""One step of HAT pre-training, PGD-10: the published way, and this package's.

    python -m benchmarks.pretrain --output docs/performance/pretrain.cpu.json

An epoch is this step, as often as the batch fits into the training images.
"""

from __future__ import annotations

from benchmarks.published import PublishedHat
from benchmarks.speed import OURS, PUBLISHED, Setting, command, parser
from benchmarks.timing import Step
from benchmarks.workbench import first_batch, pretrain_task

__all__ = ["ROWS", "build"]

ROWS = PUBLISHED | OURS
"""The second row is what HAT's authors run."""


def main() -> None:
    command("pretrain", ROWS, build, parser(__doc__ or ""))


def build(name: str, setting: Setting) -> Step:
    """The training step of a row on the first batch of the training."""
    row = ROWS[name]
    task = pretrain_task(setting.config(row.options))
    images, labels = first_batch(task)
    if not row.published:
        return lambda: task.step(0, (images, labels))
    assert task.helper is not None
    config = task.config
    published = PublishedHat(
        task.model,
        task.helper,
        epsilon=config.epsilon,
        steps=config.steps,
        size=config.step_size or 2.5 * config.epsilon / config.steps,
        spare=row.spare,
    )
    return lambda: published.step(images, labels)


if __name__ == "__main__":
    main()

"""One step of HAT pre-training, PGD-10: the published way, single gains, and ours.

    python -m benchmarks.pretrain --output docs/performance/pretrain.cpu.json

An epoch is this step, as often as the batch fits into the training images.
"""

from __future__ import annotations

from benchmarks.command import Setting, command, parser
from benchmarks.published import PublishedHat
from benchmarks.rows import HAT_ROWS
from benchmarks.timing import Step
from benchmarks.workbench import contiguous, first_batch, pretrain_task

__all__ = ["build"]


def main() -> None:
    command("pretrain", HAT_ROWS, build, parser(__doc__ or ""))


def build(name: str, setting: Setting) -> Step:
    """The training step of a row on the first batch of the training."""
    row = HAT_ROWS[name]
    task = pretrain_task(setting.config(row.options))
    images, labels = first_batch(task)
    if row.gains is None:
        return lambda: task.step(0, (images, labels))
    assert task.helper is not None
    config = task.config
    published = PublishedHat(
        task.model,
        task.helper,
        epsilon=config.epsilon,
        steps=config.steps,
        size=config.step_size or 2.5 * config.epsilon / config.steps,
        gains=row.gains,
    )
    pixels = contiguous(images)
    return lambda: published.step(pixels, labels)


if __name__ == "__main__":
    main()

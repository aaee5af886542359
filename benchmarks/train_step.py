"""One ATD training step, K = 10 against K = 10: the published way, and this package's.

    python -m benchmarks.train_step --output docs/performance/train_step.cpu.json

Both sides see the same images, attack them by as many steps and update both networks.
"""

from __future__ import annotations

from benchmarks import attack
from benchmarks.speed import Setting, command, parser
from benchmarks.timing import Step
from benchmarks.workbench import atd_task, first_batch

__all__ = ["ROWS", "build"]

ROWS = attack.ROWS


def main() -> None:
    command("train_step", ROWS, build, parser(__doc__ or ""))


def build(name: str, setting: Setting) -> Step:
    """The training step of a row on the first batch of the training."""
    row = ROWS[name]
    task = atd_task(setting.config(row.options))
    batch = first_batch(task)
    if not row.published:
        return lambda: task.step(0, batch)
    (inliers, _), (outliers, _) = batch
    published = attack.published_of(task, row)
    return lambda: published.step(inliers, outliers)


if __name__ == "__main__":
    main()

"""The scalars of training steps, fetched about once a second, and how fast the steps go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atd.training.logbook import Logbook
from atd.training.processes import Processes
from atd.training.stopwatch import Stopwatch, exchanging
from atd.training.task import Task

__all__ = ["Meter"]

_LINES_AN_EPOCH = 20
_SECONDS = 1.0


@dataclass(frozen=True)
class _Row:
    """A step's scalars, still on the device; for a step to be logged, also when and how fast."""

    step: int
    scalars: dict[str, Tensor]
    at: float = 0.0
    pace: dict[str, float] | None = None


class Meter:
    """Collects what the steps of a task return, without waiting for the device.

    `flush` fetches the values of all steps since the last one in one go, shares them between the
    processes in one exchange, looks for a loss that is not finite and writes the lines of the
    steps to be logged: 20 an epoch, or one each step.

    Such a line also tells, averaged over the steps since the line before (validation and saving
    do not count):

    * `images_per_second`, over all processes;
    * `seconds_data`, for which a step waited for its batch to be loaded, moved and augmented;
    * `seconds_communication`, spent in exchanges with other processes. Waiting for a slower one
      counts, so one process's loss may be another one's work.

    All are times of the main process's host. On CUDA, where the host runs ahead of the device and
    nothing here makes it wait, the last two are what the host was held up for, and no more.

    Args:
        task: The stage.
        processes: The processes that share the work.
        logbook: Where lines go.
    """

    def __init__(self, task: Task, processes: Processes, logbook: Logbook) -> None:
        self.task, self.processes, self.logbook = task, processes, logbook
        self.log_every = max(1, task.steps_per_epoch // _LINES_AN_EPOCH)
        self.latest: dict[str, float] = {}
        """The scalars of the last step fetched."""
        self._rows: list[_Row] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._flushed = time.monotonic()
        self._data = Stopwatch()
        self.restart()

    def restart(self) -> None:
        """Begins to measure the pace anew: what went before was no training."""
        self._since = time.perf_counter()
        self._before = self._data.seconds, exchanging.seconds
        self._steps = 0

    def waited_for(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches; the time until each is there counts as waiting for data."""
        nothing = object()
        while True:
            with self._data:
                batch = next(batches, nothing)
            if batch is nothing:
                return
            yield batch

    def record(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Notes what a step, counted from 1, has returned."""
        self._steps += 1
        if step % self.log_every:
            self._rows.append(_Row(step, scalars))
        else:
            self._rows.append(_Row(step, scalars, time.monotonic(), self._pace()))
            self.restart()

    def _pace(self) -> dict[str, float]:
        seconds, steps = time.perf_counter() - self._since, self._steps
        data, communication = self._before
        return {
            "images_per_second": round(steps * self.task.batch_size / max(seconds, 1e-9), 1),
            "seconds_data": round((self._data.seconds - data) / steps, 6),
            "seconds_communication": round((exchanging.seconds - communication) / steps, 6),
        }

    def is_due(self) -> bool:
        """Whether it is time to flush, by this process's clock."""
        return time.monotonic() - self._flushed >= _SECONDS

    def flush(self) -> str:
        """Fetches and logs the values of all steps since the last time; all processes must do so.

        Returns:
            Empty, or where the loss was not finite; such a step and those after it are not logged.
        """
        rows, self._rows = self._rows, []
        self._flushed = time.monotonic()
        if not rows:
            return ""
        names = list(rows[0].scalars)
        values = torch.stack([row.scalars[name] for row in rows for name in names])
        own = values.view(len(rows), len(names)).double().cpu()
        shared = self.processes.mean(own)
        losses = names.index("loss")
        finite = int(shared[:, losses].isfinite().long().cumprod(0).sum())
        for row, mine, means in zip(rows[:finite], own.tolist(), shared.tolist(), strict=False):
            self.latest = dict(zip(names, means, strict=True))
            self._count += 1
            for name, value in self.latest.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            if row.pace is not None:
                self._log(row, mine[losses])
        return "" if finite == len(rows) else self._name_rank(rows, own[:, losses])

    def _log(self, row: _Row, own_loss: float) -> None:
        assert row.pace is not None
        step, stage = row.step, self.task.stage
        epoch, images = step / self.task.steps_per_epoch, step * self.task.batch_size
        self.logbook.scalars(stage, step, epoch, images, {**self.latest, **row.pace}, row.at)
        pace = ", ".join(f"{name} {value:g}" for name, value in row.pace.items())
        self.logbook.rank_log.write(f"{stage} step {step}: loss {own_loss:.6g}, {pace}")

    def _name_rank(self, rows: list[_Row], losses: Tensor) -> str:
        """Where the loss was not finite first, over all processes."""
        never = rows[-1].step + 1
        bad = [row.step for row, loss in zip(rows, losses, strict=True) if not loss.isfinite()]
        firsts = self.processes.gather([bad[0] if bad else never])
        rank = firsts.index(min(firsts))
        where = f" on rank {rank} of {len(firsts)}" if self.processes.count > 1 else ""
        return f"the loss was not finite at step {firsts[rank]}{where}"

    def epoch_means(self) -> dict[str, float]:
        """The mean of each scalar over the steps since the last call (or since the start)."""
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

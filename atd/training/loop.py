"""The loop that every training stage shares: step, log, validate, keep the best, save, resume.

It knows no formulas; a task brings those.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from atd.errors import Interrupted, UserError
from atd.training.checkpoint import load_newest, load_state, save_state, state_file
from atd.training.contact import in_contact
from atd.training.logbook import Logbook
from atd.training.processes import Processes

__all__ = ["Task", "fit", "is_finished"]


class Task(Protocol):
    """One stage of training."""

    stage: str
    steps: int
    steps_per_epoch: int
    batch_size: int

    def batches(self, start: int) -> Iterator[Any]:
        """The batches of the steps from `start` on."""

    def step(self, step: int, batch: Any) -> dict[str, Tensor]:
        """One update; returns detached scalars, `loss` among them."""

    def validate(self, step: int, logbook: Logbook) -> dict[str, float]:
        """Measures on held-out images; `selection` decides which epoch is kept (larger wins)."""

    def warnings(self, means: dict[str, float]) -> list[str]:
        """What a person should know, from the epoch's mean scalars."""

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs."""

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""

    def weights(self) -> dict[str, Any]:
        """Copies of the weights that the stage is trained for."""

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Takes back what `weights` returned."""


def is_finished(folder: Path, stage: str) -> bool:
    """Whether a stage has been trained to its end in this state folder."""
    file = state_file(folder, stage)
    return file.exists() and bool(load_state(file)["finished"])


def fit(
    task: Task,
    folder: Path,
    processes: Processes,
    logbook: Logbook,
    *,
    keep: int = 2,
    save_minutes: float = 10.0,
) -> None:
    """Trains a task to its end, from the start or from its saved state.

    The task ends with the weights of its best epoch.

    Args:
        task: The stage.
        folder: Where its state is kept.
        processes: The processes that share the work.
        logbook: Where scalars go.
        keep: How many states to keep; a damaged one gives way to the one before it.
        save_minutes: Saves within an epoch whenever so much time has passed; 0 saves every step.

    Raises:
        Interrupted: A signal asked to stop; the state was saved.
        UserError: The loss is not finite, a state cannot be read or written, or a data worker
            died; the last good state is kept.
        LostContact: Another process died or hangs.
    """
    progress = _Progress(task, folder, processes, logbook, keep, 60 * save_minutes)
    with in_contact(processes, progress.place), _StopSignals() as stop:
        if progress.resume():
            return
        for batch in task.batches(progress.step):
            progress.record(task.step(progress.step, batch))
            if progress.step % task.steps_per_epoch == 0:
                progress.end_epoch()
            # One small exchange a step; a second one only where there is something to do.
            if processes.any(stop.asked or progress.is_due()):
                progress.interrupt() if processes.any(stop.asked) else progress.save_between()
        progress.finish()


class _Progress:
    """Counters, best weights and saving of one `fit`."""

    def __init__(
        self,
        task: Task,
        folder: Path,
        processes: Processes,
        logbook: Logbook,
        keep: int,
        interval: float,
    ) -> None:
        self.task, self.folder, self.processes, self.logbook = task, folder, processes, logbook
        self.keep, self.interval = keep, interval
        self.step = 0
        self.best, self.best_epoch = float("-inf"), 0
        self.best_weights: dict[str, Any] | None = None
        self.first_bad = torch.tensor(-1, device=processes.device)
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.log_every = max(1, task.steps_per_epoch // 20)
        self.saved, self.saved_step = time.monotonic(), -1
        self.bar: Any = None

    def place(self) -> str:
        """Where the training is, for messages."""
        return f"{self.task.stage} at step {self.step}"

    def resume(self) -> bool:
        """Loads what was saved; True if the stage is already finished."""
        saved = self._load()
        if saved is not None:
            if saved["finished"]:
                self.task.load_weights(saved["best_weights"])
                return True
            self.task.load(saved["task"])
            self.step, self.best = saved["step"], saved["best"]
            self.best_epoch, self.best_weights = saved["best_epoch"], saved["best_weights"]
        self.logbook.forget_after(self.task.stage, self.step)
        size = self.task.batch_size
        self.bar = tqdm(
            total=self.task.steps * size,
            initial=self.step * size,
            desc=self.task.stage,
            unit="img",
            disable=not self.processes.is_main,
            mininterval=0.5,
        )
        return False

    def _load(self) -> dict[str, Any] | None:
        """The newest good state: the main process chooses it, all others read the same one."""
        found, problem = None, ""
        if self.processes.is_main:
            try:
                found = load_newest(self.folder, self.task.stage, self._say)
            except UserError as error:
                problem = str(error)
        name, problem = self.processes.agree((found[0].name if found else "", problem))
        if problem:
            raise UserError(problem)
        if not name:
            return None
        saved = found[1] if found else self._load_chosen(self.folder / name)
        steps = self.processes.gather([saved["step"] if saved else None])
        if saved is None or len(set(steps)) > 1:
            raise UserError(
                f"{self.folder / name}: not every process reads the same state (steps by rank: "
                f"{steps}); put run.dir on a file system that all of them share"
            )
        return saved

    @staticmethod
    def _load_chosen(file: Path) -> dict[str, Any] | None:
        try:
            return load_state(file)
        except UserError:
            return None

    @property
    def epoch(self) -> float:
        return self.step / self.task.steps_per_epoch

    def record(self, scalars: dict[str, Tensor]) -> None:
        self.step += 1
        self.bar.update(self.task.batch_size)
        loss = scalars["loss"]
        bad = (self.first_bad < 0) & ~torch.isfinite(loss)
        self.first_bad = torch.where(bad, self.step, self.first_bad)
        for key, value in scalars.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value.clone()
        self.count += 1
        if self.step % self.log_every == 0:
            self._require_finite()
            means = self.processes.mean(scalars)
            images = self.step * self.task.batch_size
            self.logbook.scalars(self.task.stage, self.step, self.epoch, images, **means)
            self.bar.set_postfix({key: f"{value:.3f}" for key, value in means.items()})

    def _require_finite(self) -> None:
        bad = self.processes.gather([int(self.first_bad)])
        steps = [step for step in bad if step >= 0]
        if steps:
            first = min(steps)
            several = self.processes.count > 1
            where = f" on rank {bad.index(first)} of {len(bad)}" if several else ""
            self._fail(f"the loss was not finite at step {first}{where}")

    def _fail(self, what: str) -> None:
        self.bar.close()
        raise UserError(
            f"{self.task.stage}: {what}; the state before it is kept in "
            f"{state_file(self.folder, self.task.stage)}; start again under another "
            "run.name with a lower learning rate or run.precision=float32"
        )

    def end_epoch(self) -> None:
        self._require_finite()
        stage, epoch = self.task.stage, round(self.epoch)
        means = self.processes.mean({key: total / self.count for key, total in self.sums.items()})
        self.sums, self.count = {}, 0
        measured = self.task.validate(self.step, self.logbook)
        if not math.isfinite(measured["selection"]):
            self._fail(f"the scores of held-out images were not finite after step {self.step}")
        images = self.step * self.task.batch_size
        self.logbook.scalars(stage, self.step, self.epoch, images, **measured)
        text = ", ".join(f"{key} {value:.4f}" for key, value in measured.items())
        self._say(f"{stage} epoch {epoch}: loss {means['loss']:.4f}, {text}")
        for warning in self.task.warnings(means):
            self._say(f"warning: {stage} epoch {epoch}: {warning}")
        if measured["selection"] > self.best:
            self.best, self.best_epoch = measured["selection"], epoch
            self.best_weights = self.task.weights()
        self.save()

    def _say(self, text: str) -> None:
        if self.processes.is_main:
            tqdm.write(text)

    def is_due(self) -> bool:
        """Whether it is time to save; only the main process's clock counts."""
        return self.processes.is_main and time.monotonic() - self.saved >= self.interval

    def save_between(self) -> None:
        """Saves within an epoch, and never a state that a non-finite loss has spoilt."""
        self._require_finite()
        self.save()

    def save(self, finished: bool = False) -> None:
        """Writes the state, once a step; a finished stage needs only its best weights."""
        if self.step == self.saved_step and not finished:
            return
        state = {
            "finished": finished,
            "step": self.step,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "task": None if finished else self.task.state(),
        }
        # What the main process writes is what all go on from, so it must be what all have.
        self.processes.require_equal(state, self.task.stage, self.step)
        problem = ""
        if self.processes.is_main:
            try:
                save_state(state_file(self.folder, self.task.stage), state, self.keep)
            except UserError as error:
                problem = str(error)
        # All processes end alike when the disk is full, and none goes on before it is written.
        if problem := self.processes.agree(problem):
            self.bar.close()
            raise UserError(problem)
        self.saved, self.saved_step = time.monotonic(), self.step

    def interrupt(self) -> None:
        self._require_finite()
        self.save()
        self.bar.close()
        raise Interrupted(
            f"{self.task.stage} was saved at step {self.step} of {self.task.steps}; "
            "run the same command again to go on"
        )

    def finish(self) -> None:
        self.bar.close()
        if self.best_weights is not None:
            self.task.load_weights(self.best_weights)
        self.save(finished=True)


class _StopSignals:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __enter__(self) -> _StopSignals:
        self._previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: the caller handles signals
                return self
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

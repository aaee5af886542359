"""The loop that every training stage shares: step, log, validate, keep the best, save, resume.

It knows no formulas; a task brings those.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from atd.errors import Interrupted, UserError, first_line
from atd.training.checkpoint import load_newest, load_state, save_state, state_file
from atd.training.contact import in_contact
from atd.training.logbook import Logbook
from atd.training.meter import Meter
from atd.training.processes import Processes
from atd.training.stop_signals import StopSignals
from atd.training.task import Task

__all__ = ["Task", "is_finished", "train_task"]

_CHEAP_SAVE = 0.25
"""Seconds; a state that is written faster is written after every epoch."""


def is_finished(folder: Path, stage: str) -> bool:
    """Whether a stage has been trained to its end in this state folder."""
    file = state_file(folder, stage)
    return file.exists() and bool(load_state(file)["finished"])


def train_task(
    task: Task,
    folder: Path,
    processes: Processes,
    logbook: Logbook,
    *,
    keep: int = 2,
    save_minutes: float = 10.0,
    extendable: bool = False,
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
        extendable: Keeps what training on for more epochs needs after the last one: right for a
            task no schedule of which depends on its number of steps.

    Raises:
        Interrupted: A signal asked to stop; the state was saved.
        UserError: The loss is not finite, a state cannot be read or written, or a data worker
            died; the last good state is kept.
        LostContact: Another process died or hangs.
    """
    progress = _Progress(task, folder, processes, logbook, keep, 60 * save_minutes, extendable)
    with in_contact(processes, progress.place), StopSignals() as stop:
        if progress.resume():
            return
        with progress.bar:
            for batch in progress.meter.waited_for(task.batches(progress.step)):
                progress.record(task.step(progress.step, batch))
                if progress.step % task.steps_per_epoch == 0:
                    progress.end_epoch()
                # One small exchange a step; more only where there is something to do.
                if processes.any(stop.asked or progress.is_due()):
                    progress.tend(stop)
            progress.finish()


class _Progress:
    """Counters, best weights and saving of one training."""

    def __init__(
        self,
        task: Task,
        folder: Path,
        processes: Processes,
        logbook: Logbook,
        keep: int,
        interval: float,
        extendable: bool,
    ) -> None:
        self.task, self.folder, self.processes, self.logbook = task, folder, processes, logbook
        self.keep, self.interval, self.extendable = keep, interval, extendable
        self.meter = Meter(task, processes, logbook)
        self.step = 0
        self.best, self.best_epoch = float("-inf"), 0
        self.best_weights: dict[str, Any] | None = None
        self.saved, self.saved_step = time.monotonic(), -1
        self.save_seconds = 0.0
        self.bar: Any = None

    def place(self) -> str:
        """Where the training is, for messages."""
        return f"{self.task.stage} at step {self.step}"

    def resume(self) -> bool:
        """Loads what was saved; True if the stage is already finished."""
        saved = self._load()
        if saved is not None:
            if saved["finished"] and not self._is_extended(saved):
                self.task.load_weights(saved["best_weights"])
                return True
            self._restore(saved["task"])
            self.step, self.best = saved["step"], saved["best"]
            self.best_epoch, self.best_weights = saved["best_epoch"], saved["best_weights"]
        self.logbook.forget_after(self.task.stage, self.step)
        self.logbook.rank_log.write(f"{self.place()} of {self.task.steps}")
        size = self.task.batch_size
        self.bar = tqdm(
            total=self.task.steps * size,
            initial=self.step * size,
            desc=self.task.stage,
            unit="img",
            disable=not self.processes.is_main,
            mininterval=0.5,
        )
        self.meter.restart()
        return False

    def _is_extended(self, saved: dict[str, Any]) -> bool:
        """Whether a finished training has to go on for more epochs."""
        return self.extendable and saved["step"] < self.task.steps

    def _is_useful(self, saved: dict[str, Any]) -> bool:
        """Whether a state is enough to go on from; earlier versions kept less of a finished one."""
        return saved["task"] is not None or not self._is_extended(saved)

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.task.load(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{state_file(self.folder, self.task.stage)}: the state is not one of this version "
                f"of the training ({first_line(error)}); delete it and its like "
                f"({self.task.stage}.*.safetensors) to train this stage again"
            ) from None

    def _load(self) -> dict[str, Any] | None:
        """The newest good state: the main process chooses it, all others read the same one."""
        found = self.processes.on_main(
            lambda: load_newest(self.folder, self.task.stage, self._say, self._is_useful)
        )
        name = self.processes.agree(found[0].name if found else "")
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

    def record(self, scalars: dict[str, Any]) -> None:
        self.step += 1
        self.meter.record(self.step, scalars)
        self.bar.update(self.task.batch_size)

    def flush(self) -> None:
        """Logs the steps since the last time, and stops where their loss was not finite."""
        problem = self.meter.flush()
        latest = {key: f"{value:.3f}" for key, value in self.meter.latest.items()}
        self.bar.set_postfix(latest, refresh=False)  # the bar redraws itself every half second
        if problem:
            self._fail(problem)

    def _fail(self, what: str) -> None:
        raise UserError(
            f"{self.task.stage}: {what}; the state before it is kept in "
            f"{state_file(self.folder, self.task.stage)}; start again under another "
            "run.name with a lower learning rate or run.precision=float32"
        )

    def end_epoch(self) -> None:
        self.flush()
        stage, epoch = self.task.stage, self.step // self.task.steps_per_epoch
        means = self.meter.epoch_means()
        measured = self.task.validate(self.step, self.logbook)
        if not math.isfinite(measured["selection"]):
            self._fail(f"the scores of held-out images were not finite after step {self.step}")
        images = self.step * self.task.batch_size
        self.logbook.scalars(stage, self.step, float(epoch), images, measured)
        text = ", ".join(f"{key} {value:.4f}" for key, value in measured.items())
        self._say(f"{stage} epoch {epoch}: loss {means['loss']:.4f}, {text}")
        for warning in self.task.warnings(means):
            self._say(f"warning: {stage} epoch {epoch}: {warning}")
        if measured["selection"] > self.best:
            self.best, self.best_epoch = measured["selection"], epoch
            self.best_weights = self.task.weights()
        if not self._is_save_costly():
            self.save()

    def _say(self, text: str) -> None:
        self.logbook.rank_log.write(text)
        if self.processes.is_main:
            tqdm.write(text)

    def is_due(self) -> bool:
        """Whether it is time to log or to save; only the main process's clock counts."""
        return self.processes.is_main and (self.meter.is_due() or self._is_save_due())

    def _is_save_costly(self) -> bool:
        """Whether saving after every epoch would take more than a twentieth of the time."""
        since = time.monotonic() - self.saved
        costly = self.save_seconds > _CHEAP_SAVE and since < 20 * self.save_seconds
        # The main process decides, for all must save together.
        return self.processes.any(self.processes.is_main and costly)

    def _is_save_due(self) -> bool:
        return self.processes.is_main and time.monotonic() - self.saved >= self.interval

    def tend(self, stop: StopSignals) -> None:
        """What may have to be done between two steps: log, save, stop."""
        self.flush()
        if self.processes.any(stop.asked):
            self.save()
            raise Interrupted(
                f"{self.task.stage} was saved at step {self.step} of {self.task.steps}; "
                "run the same command again to go on"
            )
        if self.processes.any(self._is_save_due()):
            self.save()

    def save(self, finished: bool = False) -> None:
        """Writes the state, once a step; a finished stage may need its best weights only.

        All steps before it are logged by then, and none of them had a loss that was not finite.
        """
        if self.step == self.saved_step and not finished:
            return
        state = {
            "finished": finished,
            "step": self.step,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "task": self.task.state() if self.extendable or not finished else None,
        }
        # What the main process writes is what all go on from, so it must be what all have.
        self.processes.require_equal(state, self.task.stage, self.step)
        # All processes end alike when the disk is full, and none goes on before it is written.
        file, started = state_file(self.folder, self.task.stage), time.monotonic()
        self.processes.on_main(lambda: save_state(file, state, self.keep))
        self.saved, self.saved_step = time.monotonic(), self.step
        self.save_seconds = self.saved - started
        self.meter.restart()

    def finish(self) -> None:
        self.save(finished=True)
        if self.best_weights is not None:
            self.task.load_weights(self.best_weights)

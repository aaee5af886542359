"""Undisturbed runs, hurt runs, and what is compared between them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.job import Ended, Job
from tests.faults.settings import HELD, write_config

__all__ = [
    "PATIENCE",
    "SILENCE",
    "Bench",
    "Trial",
    "finish",
    "hurt_at_random",
    "judge",
    "last_line",
    "send",
    "stage_of",
    "steps_of",
    "waiting",
]

PATIENCE = 15.0
"""Seconds that ranks wait for each other: one may be killed before the others know it."""

SILENCE = 8.0
"""Seconds without a sign of a process after which the others give up, where it is tried."""


@dataclass
class Trial:
    """What came of one fault.

    Attributes:
        fault: Its name.
        processes: How many trained.
        stage: Where it struck: `start`, a stage of training, `evaluation` or `finished`.
        expected: Whether the hurt job ended as it should (exit codes and message).
        same: Whether the final weights and results are those of the undisturbed run.
        hung: Whether a start did not end by itself.
        seconds: From the fault to the end of the hurt job.
        starts: Starts of the command until the run was finished.
        note: What was seen, where it was not as expected.
    """

    fault: str
    processes: int
    stage: str = "start"
    expected: bool = True
    same: bool = False
    hung: bool = False
    seconds: float = 0.0
    starts: int = 0
    note: str = ""


@dataclass
class Bench:
    """Undisturbed runs, by kind of training and number of processes, and the draws of moments."""

    work: Path
    draws: random.Random
    steps: list[tuple[str, int, bool]] = field(default_factory=list)
    _known: dict[tuple[str, int], tuple[Any, float]] = field(default_factory=dict)
    _count: int = 0

    def config(self, kind: str) -> Path:
        """The config file of a kind of training."""
        return write_config(kind, self.work)

    def folder(self) -> Path:
        """A run folder of its own for every trial."""
        self._count += 1
        return self.work / "runs" / f"{self._count:04d}"

    def reference(self, kind: str, processes: int) -> tuple[Any, float]:
        """Weights and results of the undisturbed run, and the seconds it took."""
        if (kind, processes) not in self._known:
            folder, since = self.folder(), time.monotonic()
            ended = Job(self.config(kind), folder, processes).wait()
            if not ended.done:
                raise RuntimeError(f"the undisturbed run failed: {ended.codes} {last_line(ended)}")
            self._known[kind, processes] = outcome(folder), time.monotonic() - since
            if kind == HELD:
                self.steps = steps_of(folder)
            shutil.rmtree(folder)
        return self._known[kind, processes]

    def moment(self, kind: str, processes: int) -> float:
        """A random moment of the run, in seconds from its start."""
        return self.draws.uniform(0.0, self.reference(kind, processes)[1])


def outcome(folder: Path) -> tuple[bytes, Any]:
    """The final weights, bit for bit, and all numbers of the results but times."""
    weights = (folder / "detector" / "model.safetensors").read_bytes()
    results = json.loads((folder / "report" / "results.json").read_text())
    return weights, _without_times(results)


def _without_times(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_times(value)
            for key, value in node.items()
            if key not in ("provenance", "seconds", "date", "path")
        }
    return [_without_times(value) for value in node] if isinstance(node, list) else node


def stage_of(folder: Path) -> str:
    """The stage that a run is in, from what it has written."""
    if (folder / "state" / "finished").exists():
        return "finished"
    if (folder / "detector").exists():
        return "evaluation"
    try:
        lines = (folder / "stats.jsonl").read_text().splitlines()
    except OSError:
        return "start"
    for line in reversed(lines):
        try:
            return str(json.loads(line)["stage"])
        except ValueError:
            continue
    return "start"


def finish(bench: Bench, trial: Trial, kind: str, folder: Path) -> Trial:
    """Gives the same command again, until the run is finished, and compares."""
    for _ in range(4):
        ended = Job(bench.config(kind), folder, trial.processes).wait()
        trial.starts += 1
        trial.hung |= ended.hung
        if ended.done:
            trial.same = outcome(folder) == bench.reference(kind, trial.processes)[0]
            shutil.rmtree(folder, ignore_errors=True)
            return trial
    trial.note += f" not finished: {ended.codes} {last_line(ended)}"
    return trial


def last_line(ended: Ended) -> str:
    """The last line of output that says something."""
    lines = [line for line in ended.output.splitlines() if "error" in line or "stopped" in line]
    return lines[-1][-200:] if lines else ended.output[-200:]


def judge(trial: Trial, ended: Ended, codes: set[int], words: str = "") -> None:
    """Compares a hurt job's end with what it should be."""
    trial.starts += 1
    trial.hung |= ended.hung
    trial.seconds = ended.seconds
    good = set(ended.codes) <= codes and words in ended.output
    if not good and not (ended.done and trial.stage == "finished"):
        trial.expected = False
        trial.note += f" {ended.codes} {last_line(ended)}"


def waiting(seconds: float) -> tuple[str, ...]:
    """Options of a job whose processes wait so long for one that says nothing."""
    return (f"run.timeout_minutes={seconds / 60}",)


def hurt_at_random(
    bench: Bench,
    trial: Trial,
    hurt: Callable[[Job], None],
    kind: str = HELD,
    plant: Callable[[int], None] | None = None,
    torchrun: bool = False,
    training: bool = False,
    patience: float = PATIENCE,
) -> tuple[Path, Job]:
    """Starts a job and does something to it at a random moment, before it ends.

    `training` counts from the first logged step: torchrun's processes import everything anew,
    which takes longer than the training.
    """
    while True:
        folder = bench.folder()
        moment = bench.moment(kind, trial.processes)
        config, options = bench.config(kind), waiting(patience)
        job = Job(config, folder, trial.processes, plant, options, torchrun=torchrun)
        while training and job.running() and stage_of(folder) == "start":
            job.run_for(0.1)
        if job.run_for(moment):
            trial.stage = stage_of(folder)
            hurt(job)
            return folder, job
        job.end()
        shutil.rmtree(folder, ignore_errors=True)


def send(job: Job, rank: int, number: signal.Signals) -> None:
    ranks = job.ranks()
    if rank < len(ranks) and job.running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(ranks[rank], number)


def steps_of(folder: Path) -> list[tuple[str, int, bool]]:
    """Stage, step and kind of every line that a run has logged."""
    entries = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    return [(entry["stage"], entry["step"], "loss" in entry) for entry in entries]

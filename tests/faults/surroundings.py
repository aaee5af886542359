"""Faults of what a run lives on: its states, its disk, its images, its pace and its clock."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.faults import plants
from tests.faults.bench import (
    PATIENCE,
    Bench,
    Trial,
    finish,
    hurt_at_random,
    judge,
    send,
    stage_of,
    waiting,
)
from tests.faults.job import Job
from tests.faults.settings import HELD, STREAMED


def _damage(bench: Bench, processes: int, name: str, damage: Callable[[Path], None]) -> Trial:
    """Stops a run at a random moment, harms its newest state, and goes on."""
    trial = Trial(name, processes)
    while True:
        folder, job = hurt_at_random(bench, trial, lambda job: send(job, 0, signal.SIGTERM))
        job.wait()
        files = list((folder / "state").glob("*.safetensors"))
        if any(".1." in file.name for file in files):
            break
        shutil.rmtree(folder, ignore_errors=True)  # nothing to fall back to yet
    newest = max(
        (file for file in files if file.name.count(".") == 1), key=lambda f: f.stat().st_mtime
    )
    if not newest.with_suffix(".1.safetensors").exists():
        newest = next(file for file in files if ".1." in file.name)
        newest = newest.with_name(newest.name.replace(".1.", "."))
    damage(newest)
    ended = Job(bench.config(HELD), folder, processes).wait()
    words = "is used" if trial.stage != "finished" else ""
    judge(trial, ended, {0}, words)
    return finish(bench, trial, HELD, folder)


def truncated(bench: Bench, processes: int) -> Trial:
    """The newest state is cut off."""

    def damage(file: Path) -> None:
        os.truncate(file, int(file.stat().st_size * bench.draws.random()))

    return _damage(bench, processes, "a truncated state file", damage)


def flipped(bench: Bench, processes: int) -> Trial:
    """One bit of the newest state is flipped."""

    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        at = bench.draws.randrange(8 * len(content))
        content[at // 8] ^= 1 << at % 8
        file.write_bytes(content)

    return _damage(bench, processes, "a bit-flipped state file", damage)


def missing(bench: Bench, processes: int) -> Trial:
    """The newest state is gone."""
    return _damage(bench, processes, "a missing state file", lambda file: file.unlink())


def slow_rank(bench: Bench, processes: int) -> Trial:
    """One rank takes 50 ms longer for every step; nothing but time may change."""
    trial = Trial("a slow rank", processes, stage="all")
    folder = bench.folder()
    plant = plants.slow(processes - 1, 0.05)
    judge(trial, Job(bench.config(HELD), folder, processes, plant=plant).wait(), {0})
    return finish(bench, trial, HELD, folder)


def clock(bench: Bench, processes: int) -> Trial:
    """The time of day jumps at every look, and a random rank is killed on the way."""
    trial = Trial("clock changes, and a kill -9", processes)
    plant = plants.jumping_clock(bench.draws.randrange(10**6))
    folder, job = hurt_at_random(
        bench, trial, lambda job: send(job, 0, signal.SIGKILL), plant=plant
    )
    judge(trial, job.wait(), {-9, 1})
    judge(trial, Job(bench.config(HELD), folder, processes, plant=plant).wait(), {0})
    return finish(bench, trial, HELD, folder)


def full_quota(bench: Bench, processes: int) -> Trial:
    """From a random moment on no file of the main process may grow beyond 100 kB.

    That leaves its log alone, and refuses its states.
    """
    trial = Trial("no file may grow (RLIMIT_FSIZE)", processes)

    def hurt(job: Job) -> None:
        limit = 100_000
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(job.pids[0], resource.RLIMIT_FSIZE, (limit, limit))

    folder, job = hurt_at_random(bench, trial, hurt)
    # A limit that the rest of the run stays under, and a run about to end, do no harm.
    ended = job.wait()
    judge(trial, ended, {0, 1, 2}, "" if ended.done else "the same command")
    return finish(bench, trial, HELD, folder)


def full_tmpfs(bench: Bench, processes: int) -> Trial | None:
    """The run folder lies on a tiny tmpfs that somebody else fills at a random moment."""
    trial = Trial("a full disk (tmpfs)", processes)
    folder = bench.folder()
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        return None  # only root may
    ballast = folder / "ballast"
    try:
        job = Job(bench.config(HELD), folder, processes, options=waiting(PATIENCE))
        if not job.run_for(bench.moment(HELD, processes)):
            job.end()
            return full_tmpfs(bench, processes)  # it was over before its moment came
        trial.stage = stage_of(folder)
        _fill(ballast)
        ended = job.wait()
        if ended.done:
            return full_tmpfs(bench, processes)  # it had nothing left to write
        words = "" if trial.stage == "start" else "the same command"
        judge(trial, ended, {2, 1} if processes > 1 else {2}, words)
        ballast.unlink(missing_ok=True)
        return finish(bench, trial, HELD, folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _fill(file: Path) -> None:
    try:
        with file.open("wb", buffering=0) as handle:
            while True:
                handle.write(bytes(4096))
    except OSError:
        return


def lost_image(bench: Bench, processes: int) -> Trial:
    """A third of the image files disappears at a random moment, and comes back."""
    trial = Trial("data files that disappear", processes)
    away = bench.work / "away"
    images = bench.config(STREAMED).parent / "images"
    chosen = bench.draws.sample(sorted(images.rglob("*.png")), 27)

    def hurt(job: Job) -> None:
        for file in chosen:
            (away / file.relative_to(images)).parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, away / file.relative_to(images))

    # Files that are gone before the training lists them are not missing from it.
    folder, job = hurt_at_random(bench, trial, hurt, kind=STREAMED, training=True)
    ended = job.wait()
    for file in chosen:
        if not file.exists():
            os.replace(away / file.relative_to(images), file)
    # A file that is not asked for again does no harm; one that is must be named in one line.
    judge(trial, ended, {0, 1, 2}, "" if ended.done else ".png")
    return finish(bench, trial, STREAMED, folder)

"""The faults: each is brought about once, and the run is then carried to its end."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import plants
from tests.faults.bench import (
    PATIENCE,
    SILENCE,
    Bench,
    Trial,
    finish,
    hurt_at_random,
    judge,
    last_line,
    send,
    stage_of,
    steps_of,
    waiting,
)
from tests.faults.job import Job, children
from tests.faults.settings import HELD, STREAMED

__all__ = ["FAULTS"]

KILLS_OF_A_RUN = 8
"""At most so many kills strike one run before it may finish."""


def kill(bench: Bench, processes: int) -> list[Trial]:
    """kill -9 of a random rank, again and again until the run is finished.

    Nothing but the loss of contact ends the other ranks.
    """
    folder, trials = bench.folder(), []
    longest = bench.reference(HELD, processes)[1] / 2
    while len(trials) < KILLS_OF_A_RUN:
        job = Job(bench.config(HELD), folder, processes, options=waiting(PATIENCE))
        if not job.run_for(bench.draws.uniform(0.0, longest)):
            break
        trial = Trial("kill -9 of a rank", processes, stage_of(folder))
        send(job, bench.draws.randrange(processes), signal.SIGKILL)
        judge(trial, job.wait(), {-9, 1}, "contact with" if processes > 1 else "")
        trials.append(trial)
    else:
        job = Job(bench.config(HELD), folder, processes)
    ended = job.wait()
    last = trials[-1] if trials else Trial("no fault", processes)
    last.hung |= ended.hung
    finish(bench, last, HELD, folder)
    for trial in trials:  # what one of them lost is missing at the end
        trial.same = last.same
    return trials


def kill_under_torchrun(bench: Bench, processes: int) -> Trial:
    """kill -9 of a random rank that torchrun started."""
    trial = Trial("kill -9 of a rank under torchrun", processes)
    rank = bench.draws.randrange(processes)

    def hurt(job: Job) -> None:
        send(job, rank, signal.SIGKILL)

    folder, job = hurt_at_random(bench, trial, hurt, torchrun=True, training=True)
    judge(trial, job.wait(), {1})
    return finish(bench, trial, HELD, folder)


def kill_launcher(bench: Bench, processes: int) -> Trial:
    """kill -9 of torchrun: the ranks go on alone, and a second start waits or is refused."""
    trial = Trial("kill -9 of torchrun", processes)
    orphans: list[int] = []

    def hurt(job: Job) -> None:
        orphans.extend(job.ranks())
        os.kill(job.pids[0], signal.SIGKILL)

    folder, job = hurt_at_random(bench, trial, hurt, torchrun=True, training=True)
    judge(trial, job.wait(), {-9})
    second = Job(bench.config(HELD), folder, processes).wait()
    refused = "another process is training" in second.output and 2 in second.codes
    if not (second.done or refused):
        trial.expected, trial.note = False, f" second start: {second.codes} {last_line(second)}"
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return finish(bench, trial, HELD, folder)


def _ask_to_stop(bench: Bench, processes: int, number: signal.Signals, name: str) -> Trial:
    trial = Trial(name, processes)
    rank = bench.draws.randrange(processes)
    folder, job = hurt_at_random(bench, trial, lambda job: send(job, rank, number))
    ended = job.wait()
    if trial.stage in ("helper", "pretrain", "atd"):
        judge(trial, ended, {130}, "stopped: ")
    else:  # outside of training a rank that stops is lost to the others
        judge(trial, ended, {130, 1, -int(number), 0})
    return finish(bench, trial, HELD, folder)


def sigterm(bench: Bench, processes: int) -> Trial:
    """SIGTERM to a random rank: all save at the next step and exit 130."""
    return _ask_to_stop(bench, processes, signal.SIGTERM, "SIGTERM to a rank")


def sigint(bench: Bench, processes: int) -> Trial:
    """Ctrl-C to a random rank: all save at the next step and exit 130."""
    return _ask_to_stop(bench, processes, signal.SIGINT, "Ctrl-C to a rank")


def sigterm_to_torchrun(bench: Bench, processes: int) -> Trial:
    """SIGTERM to torchrun, which passes it on to the groups of all ranks."""
    trial = Trial("SIGTERM to torchrun, with data workers", processes)

    def hurt(job: Job) -> None:
        os.kill(job.pids[0], signal.SIGTERM)

    folder, job = hurt_at_random(bench, trial, hurt, kind=STREAMED, torchrun=True, training=True)
    words = "was saved at step" if trial.stage in ("helper", "pretrain", "atd") else ""
    judge(trial, job.wait(), {1, -15}, words)
    return finish(bench, trial, STREAMED, folder)


def silent(bench: Bench, processes: int) -> Trial:
    """SIGSTOP of a random rank: the others give up when the process group's time is over."""
    trial = Trial("a rank that hangs (SIGSTOP)", processes)
    rank = bench.draws.randrange(processes)
    folder, job = hurt_at_random(
        bench,
        trial,
        lambda job: send(job, rank, signal.SIGSTOP),
        patience=SILENCE,
    )
    others = [pid for index, pid in enumerate(job.pids) if index != rank]
    since, limit = time.monotonic(), 10 * SILENCE
    while job.running() and time.monotonic() - since < limit:
        if len(job.codes) >= len(others):
            break
        time.sleep(0.05)
    trial.seconds = time.monotonic() - since
    trial.hung = trial.seconds >= limit
    job.end()
    ended = job.wait()
    seconds = trial.seconds
    judge(trial, ended, {1, -9}, "contact with")
    trial.seconds = seconds
    return finish(bench, trial, HELD, folder)


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
        if job.run_for(bench.moment(HELD, processes)):
            trial.stage = stage_of(folder)
            _fill(ballast)
        ended = job.wait()
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


def dead_worker(bench: Bench, processes: int) -> Trial:
    """kill -9 of a process that reads images for a rank."""
    trial = Trial("a data worker that dies", processes)
    rank, hit = bench.draws.randrange(processes), False

    def hurt(job: Job) -> None:
        nonlocal hit
        for pid in children(job.pids[rank]):
            hit = True
            os.kill(pid, signal.SIGKILL)

    while not hit:
        folder, job = hurt_at_random(bench, trial, hurt, kind=STREAMED)
        if not hit:
            job.end()
            shutil.rmtree(folder, ignore_errors=True)
    # Reading ahead may be over, in which case nobody misses the worker.
    ended = job.wait()
    judge(trial, ended, {0, 1, 2}, "" if ended.done else "a data worker died")
    return finish(bench, trial, STREAMED, folder)


def other_count(bench: Bench, processes: int) -> Trial:
    """Stopped on one number of processes, finished on another.

    Rounding differs then, and an attack follows the sign of a gradient; so it is the steps that
    are compared: each was taken once.
    """
    other = 1 if processes > 1 else 2
    trial = Trial(f"resumed on {other} instead (steps compared)", processes)
    folder, job = hurt_at_random(bench, trial, lambda job: send(job, 0, signal.SIGTERM))
    judge(trial, job.wait(), {0, 1, 130})
    ended = Job(bench.config(HELD), folder, other).wait()
    judge(trial, ended, {0})
    bench.reference(HELD, processes)
    trial.same = ended.done and steps_of(folder) == bench.steps
    return trial


FAULTS: dict[Callable[[Bench, int], Trial | list[Trial] | None], tuple[int, ...]] = {
    kill: (1, 2),
    kill_under_torchrun: (2,),
    kill_launcher: (2,),
    sigterm: (1, 2),
    sigint: (1, 2),
    sigterm_to_torchrun: (2,),
    silent: (2,),
    truncated: (1, 2),
    flipped: (1, 2),
    missing: (1, 2),
    slow_rank: (2,),
    clock: (1, 2),
    full_quota: (1, 2),
    full_tmpfs: (1, 2),
    lost_image: (1, 2),
    dead_worker: (1, 2),
    other_count: (1, 2),
}
"""Every fault, and on how many processes it is tried."""

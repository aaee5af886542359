"""Faults of processes: they are killed, asked to stop, or hang."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time

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
    folder, job = hurt_at_random(
        bench, trial, lambda job: send(job, 0, signal.SIGTERM), training=True
    )
    judge(trial, job.wait(), {0, 1, 130, -signal.SIGTERM})  # outside of training it just ends
    ended = Job(bench.config(HELD), folder, other).wait()
    judge(trial, ended, {0})
    bench.reference(HELD, processes)
    trial.same = ended.done and steps_of(folder) == bench.steps
    return trial

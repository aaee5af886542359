"""A process that is silent or gone ends the others: in time, with one line that names it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import atd
from atd.errors import LostContact
from atd.training.contact import in_contact

SILENT_SECONDS = 3

SCRIPT = f"""
import os, signal, sys
from atd.errors import run_command
from atd.training.contact import in_contact
from atd.training.processes import Processes

def command():
    processes = Processes("cpu", timeout_minutes={SILENT_SECONDS} / 60)
    with in_contact(processes, lambda: "toy at step 7"):
        assert processes.gather([processes.rank]) == [0, 1]
        if processes.rank == 1:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        {{exchange}}

run_command(command)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(rank, port, exchange="", end="SIGKILL"):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(atd.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    command = [sys.executable, "-c", SCRIPT.format(exchange=exchange), end]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.dist
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_never_comes_ends_the_other_in_time(rank):
    alone = start(rank, free_port())
    # Far less than the half hour that torch would wait.
    _, errors = alone.communicate(timeout=2 * SILENT_SECONDS + 60)
    assert alone.returncode == 1, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    named = f"rank {rank}: lost contact with rank {1 - rank} in the start of the processes; "
    assert named in line


def test_whoever_waits_in_vain_is_ended_all_the_same():
    script = """
import datetime, time
from types import SimpleNamespace
from atd.training.contact import not_forever
limit = datetime.timedelta(seconds=0.2)
with not_forever(SimpleNamespace(rank=1, count=1), "never", limit):
    time.sleep(0.5)
with not_forever(SimpleNamespace(rank=1, count=2), "in time", limit):
    pass
with not_forever(SimpleNamespace(rank=1, count=2), "the start", limit):
    time.sleep(100)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(atd.__file__).parents[1])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: rank 1: no contact with another process in the start after"
    )
    assert "in time" not in done.stderr


@pytest.mark.dist
@pytest.mark.parametrize(
    ("end", "exchange"),
    [
        ("SIGSTOP", "processes.any(False)"),
        ("SIGSTOP", "processes.wait()"),
        ("SIGKILL", "processes.gather([1])"),
    ],
)
def test_a_silent_or_dead_process_ends_the_others_in_time(end, exchange):
    port = free_port()
    first, second = (start(rank, port, exchange, end) for rank in (0, 1))
    try:
        os.waitid(os.P_PID, second.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        # The wait itself, a roll call of at most three seconds a process, and the exit.
        _, errors = first.communicate(timeout=SILENT_SECONDS + 60)
    finally:
        first.kill()
        second.kill()
        second.communicate()
    assert first.returncode == 1, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "rank 0: lost contact with rank 1 in toy at step 7; the same command" in line
    assert ("larger run.timeout_minutes" in line) is (end == "SIGSTOP")


class Pair:
    count, rank = 2, 0


def test_the_remedy_fits_what_was_seen():
    for words, slow in (("Timed out waiting 8000ms for recv", True), ("Connection reset", False)):
        with (
            pytest.raises(LostContact) as lost,
            in_contact(Pair, lambda: "atd at step 2"),
        ):
            raise RuntimeError(f"[gloo/transport/tcp] {words}\nand more")
        assert ("run.timeout_minutes" in str(lost.value)) is slow
        assert "\n" not in str(lost.value)

"""A process that is silent or gone ends the others: in time, with one line that names it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(atd.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, "-c", SCRIPT.format(exchange=exchange), end]
    first, second = (
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    )
    try:
        os.waitid(os.P_PID, second.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        since = time.monotonic()
        _, errors = first.communicate(timeout=60)
        # The wait itself, a roll call of at most three seconds a process, and the exit.
        assert time.monotonic() - since < SILENT_SECONDS + 15
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

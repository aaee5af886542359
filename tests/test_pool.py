"""The pool that tests of two processes share: its answers, and how it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from pool import PoolFailure

pytestmark = pytest.mark.dist


def place(processes, word=""):
    return f"{word}{processes.rank} of {processes.count}"


def exchanged(processes):
    values = torch.arange(3) + processes.rank
    return processes.mean(values), processes.gather([processes.rank]), torch.get_num_threads()


def failing_in_one(processes, message):
    if processes.rank == 1:
        raise ValueError(message)
    processes.wait()


def hanging_in_one(processes, _):
    if processes.rank == 1:
        time.sleep(100)
    processes.wait()


def dying_in_one(processes, _):
    if processes.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    processes.wait()


def killing(processes, asker):
    if processes.rank == 0:
        os.kill(asker, signal.SIGKILL)
    hanging_in_one(processes, None)


def test_results_come_in_the_order_of_ranks(pool):
    assert pool(place) == ["0 of 2", "1 of 2"]
    assert pool(place, "rank ") == ["rank 0 of 2", "rank 1 of 2"]


def test_the_processes_stay_and_exchange(pool):
    pool(place)
    before = [worker.process.pid for worker in pool.workers]
    for mean, ranks, threads in pool(exchanged):
        assert mean.tolist() == [0.5, 1.5, 2.5]
        assert ranks == [0, 1]
        assert threads == 1
    assert [worker.process.pid for worker in pool.workers] == before


@pytest.mark.parametrize(
    ("function", "seconds", "told"),
    [
        (
            failing_in_one,
            200,
            ["\nrank 1: Traceback", ", in failing_in_one", "ValueError: no cheese"],
        ),
        (hanging_in_one, 1.5, ["\nrank 0: no answer after", "\nrank 1: no answer after"]),
        (dying_in_one, 200, ["\nrank 1: died with exit code -9"]),
    ],
)
def test_a_failure_is_told_and_the_next_call_works(pool, function, seconds, told):
    pool(place)
    with pytest.raises(PoolFailure, match=rf"{function.__name__}\('no cheese',\)\n") as failure:
        pool(function, "no cheese", seconds=seconds)
    for words in told:
        assert words in str(failure.value)
    assert pool(place) == ["0 of 2", "1 of 2"]


def test_the_processes_end_with_pytest(tmp_path):
    script = (
        "import os, pathlib, sys, pool, test_pool;"
        "pool.Pool(pathlib.Path(sys.argv[1]))(test_pool.killing, os.getpid())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # They write to the same pipe, which is at its end when the last of them has closed it.
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL

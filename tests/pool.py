"""Processes that stay for the whole session and do together what tests ask of them."""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import reprlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

GRACE = 1.0
"""Seconds that the others have to tell of a failure too, once one has told of its own."""


class PoolFailure(Exception):
    """A process failed, died or gave no answer in time."""


class Worker:
    """One of the processes, as pytest sees it.

    Args:
        rank: Its rank.
        count: How many there are.
        store: A file, not there yet, at which the processes find each other.
    """

    def __init__(self, rank: int, count: int, store: Path) -> None:
        self.connection, theirs = Pipe()
        script = Path(__file__).with_name("pool_worker.py")
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(store), str(theirs.fileno())],
            env={
                **os.environ,
                **{name: str(value) for name, value in ranks.items()},
                "PYTHONPATH": os.pathsep.join(sys.path),
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for pytest alone
        )
        theirs.close()

    def ask(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # it is dead, as its answer will be
            self.connection.send_bytes(order)

    def answer(self) -> tuple[bool, Any]:
        """Whether the work was done, and its result or what went wrong."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return False, f"died with exit code {self.process.wait()}"

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Pool:
    """Calls functions on processes that form one group.

    The first call starts them, and so does the one after a failure: an exchange that was left
    half done would spoil the next one.

    Args:
        folder: Where they may leave files.
        count: How many there are.
    """

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.folder, self.count = folder, count
        self.workers: list[Worker] = []

    def __call__(self, function: Callable, *arguments: Any, seconds: float = 200.0) -> list[Any]:
        """Calls a function on all processes at once.

        Args:
            function: A function of a module, called with the process's `Processes` first.
            *arguments: What else it is called with.
            seconds: How long to wait for all answers.

        Returns:
            Its results by rank.

        Raises:
            PoolFailure: A process failed; says which, and how.
        """
        __tracebackhide__ = True
        name = f"{function.__module__}.{function.__qualname__}{reprlib.repr(arguments)}"
        try:
            answers = self._answers(_order(function, arguments), seconds)
            problems = [
                f"rank {rank}: {said}" for rank, (done, said) in answers.items() if not done
            ]
            if problems:
                raise PoolFailure("\n".join([name, *problems]))
        except BaseException:
            self.close()
            raise
        return [answers[rank][1] for rank in range(self.count)]

    def _answers(self, order: bytes, seconds: float) -> dict[int, tuple[bool, Any]]:
        """What each process answers; silence is an answer too, and the last."""
        self._start()
        for worker in self.workers:
            worker.ask(order)
        answers, since = {}, time.monotonic()
        until = since + seconds
        silent = {worker.connection: rank for rank, worker in enumerate(self.workers)}
        while silent and (ready := wait(silent, until - time.monotonic())):
            for connection in ready:
                rank = silent.pop(connection)
                answers[rank] = self.workers[rank].answer()
                if not answers[rank][0]:
                    until = min(until, time.monotonic() + GRACE)
        for rank in silent.values():
            self.workers[rank].process.send_signal(signal.SIGUSR1)
            waited = f"no answer after {time.monotonic() - since:.1f} s"
            answers[rank] = False, f"{waited}; where it stands is on stderr"
        time.sleep(0.5 if silent else 0.0)  # until it is written there
        return answers

    def _start(self) -> None:
        if not self.workers:
            store = Path(tempfile.mkdtemp(dir=self.folder)) / "store"
            self.workers = [Worker(rank, self.count, store) for rank in range(self.count)]

    def close(self) -> None:
        """Ends the processes, which are idle or lost: there is nothing to wait for."""
        for worker in self.workers:
            worker.end()
        self.workers = []


def _order(function: Callable, arguments: tuple[Any, ...]) -> bytes:
    place = function.__module__, inspect.getfile(function), function.__qualname__
    return pickle.dumps((*place, arguments))

"""Spreads work on many images over the cores of the machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from atd.data.budget import shared_room, take_share
from atd.errors import UserError
from atd.threads import share_of_cores

__all__ = ["cores", "spread"]

Result = TypeVar("Result")

_CHUNK = 64
_MANY = 2048
"""From so many images on, processes repay their start; Python's lock holds threads up."""


def cores() -> int:
    """How many images may be worked on at a time: this process's share of cores, at most 16."""
    return min(16, share_of_cores())


def spread(
    work: Callable[[range], Result], size: int, *, processes: bool
) -> Iterator[tuple[range, Result]]:
    """Calls a function on consecutive pieces of `range(size)`, several at a time.

    Args:
        work: What to do with a piece. What it returns has to be picklable.
        size: Number of images.
        processes: Whether forked processes may do it where there are many images. They see the
            memory of now, but what they write there stays with them.

    Yields:
        Each piece and what `work` returned for it, in order.

    Raises:
        UserError: A process was ended from outside, or what `work` raises.
    """
    pieces = [range(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK)]
    forks = processes and size >= _MANY and cores() > 1 and _can_fork()
    with _executor(work, forks) as (executor, call):
        try:
            yield from zip(pieces, executor.map(call, pieces), strict=True)
        except BrokenProcessPool:
            raise UserError(
                "a process that read images was ended from outside, as the system does when "
                "memory is short; free some and run the same command again"
            ) from None
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _executor(
    work: Callable[[range], Any], forks: bool
) -> Iterator[tuple[Executor, Callable[[range], Any]]]:
    if not forks:
        yield ThreadPoolExecutor(cores()), work
        return
    alive = os.pipe()
    fork = multiprocessing.get_context("fork")
    try:
        yield ProcessPoolExecutor(cores(), fork, _begin, (work, shared_room(), *alive)), _call
    finally:
        for end in alive:
            os.close(end)


def _can_fork() -> bool:
    # macOS has fork, but its own libraries do not bear it.
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


_work: Callable[[range], Any]
"""What a forked process has been started for."""


def _begin(work: Callable[[range], Any], room: Any, alive: int, parent: int) -> None:
    """Readies a forked process: it leaves signals to its parent and ends when that is gone."""
    import torch

    global _work
    _work = work
    take_share(room)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.close(parent)

    def watch() -> None:
        os.read(alive, 1)  # returns once no process holds the other end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(piece: range) -> Any:
    return _work(piece)

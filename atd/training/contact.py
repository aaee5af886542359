"""What happens when one of several processes dies or hangs: the others end, and say where."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from atd.errors import LostContact, UserError, first_line, is_lost_contact

if TYPE_CHECKING:  # it is in contact itself, while it starts and ends
    from atd.training.processes import Processes

__all__ = ["in_contact", "not_forever"]

_ANSWER = datetime.timedelta(seconds=3)
_ROLL_CALL = 20.0
"""Seconds after which no further missing ranks are looked for; those found so far are named."""
_WORKER = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)")
_TIME_IS_OVER = re.compile(r"timed? ?out", re.I)


@contextlib.contextmanager
def in_contact(processes: Processes, place: Callable[[], str]) -> Iterator[None]:
    """Turns the failures of a death elsewhere into one line that names ranks and place.

    Args:
        processes: The processes that share the work.
        place: The stage and step, asked for when something fails.

    Raises:
        LostContact: Another process of the job died or hangs.
        UserError: A data worker of this process died.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if _WORKER.search(text):
            raise UserError(
                f"rank {processes.rank}: a data worker died in {place()} (short of memory?); the "
                "state is kept: run the same command again, or with a smaller loader.workers"
            ) from None
        if processes.count == 1 or not is_lost_contact(error):
            raise
        missing = _missing(processes)
        others = f"rank {', '.join(map(str, missing))}" if missing else "another process"
        # Whether it hangs or works on, the one that waited cannot tell.
        slow = ", with a larger run.timeout_minutes if that one was only slow"
        remedy = slow if _TIME_IS_OVER.search(text) else ""
        raise LostContact(
            f"rank {processes.rank}: lost contact with {others} in {place()}; the same command "
            f"again goes on{remedy} ({first_line(error)})"
        ) from None


@contextlib.contextmanager
def not_forever(processes: Processes, place: str, limit: datetime.timedelta) -> Iterator[None]:
    """Ends the process, with one line, where something takes longer than it ever should.

    The store of a stopped process never answers, not even that time is over, so whoever waits
    for it in torch cannot be told otherwise.

    Args:
        processes: The processes that share the work.
        place: What they do, for the message.
        limit: How long it may take.
    """

    def give_up() -> None:
        minutes = limit.total_seconds() / 60
        print(
            f"error: rank {processes.rank}: no contact with another process in {place} after "
            f"{minutes:.1f} minutes; the same command again goes on",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    timer = threading.Timer(limit.total_seconds(), give_up)
    timer.daemon = True
    if processes.count > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _missing(processes: Processes) -> list[int]:
    """The ranks that do not answer a roll call, of two the other; empty where nobody can tell."""
    missing: set[int] = set()
    # The store of a stopped process never answers, not even that time is over: hence a thread.
    roll_call = threading.Thread(target=_roll_call, args=(processes, missing), daemon=True)
    roll_call.start()
    roll_call.join(min(_ANSWER.total_seconds() * processes.count + 1, _ROLL_CALL))
    if not missing and processes.count == 2:
        return [1 - processes.rank]
    return sorted(missing)


def _roll_call(processes: Processes, missing: set[int]) -> None:
    """Puts the ranks that do not answer into `missing`."""
    launcher_keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if processes.rank and not launcher_keeps_store:
        missing.add(0)  # it keeps the store: only its answer can clear it
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set(f"atd/survivor/{processes.rank}", "here")
        for rank in range(processes.count):
            missing.discard(rank) if _answers(store, rank) else missing.add(rank)
    except (RuntimeError, ValueError):  # the store went down with the process that kept it
        return


def _answers(store: Any, rank: int) -> bool:
    try:
        store.wait([f"atd/survivor/{rank}"], _ANSWER)
    except dist.DistStoreError:
        return False
    return True

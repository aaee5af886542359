"""What happens when one of several processes dies or hangs: the others end, and say where."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Iterator

import torch.distributed as dist

from atd.errors import LostContact, UserError
from atd.training.processes import Processes

__all__ = ["in_contact"]

_ANSWER = datetime.timedelta(seconds=3)
_LOST = re.compile(
    r"gloo|nccl|TCPStore|connection (closed|reset|refused)|broken pipe|socket|timed? ?out", re.I
)


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
        if "DataLoader worker" in text and "exited unexpectedly" in text:
            raise UserError(
                f"rank {processes.rank}: a data worker died in {place()} (short of memory?); the "
                "state is kept: run the same command again, or with a smaller loader.workers"
            ) from None
        distributed = isinstance(error, dist.DistError) or _LOST.search(text)
        if processes.count == 1 or not distributed:
            raise
        missing = _missing(processes)
        others = f"rank {', '.join(map(str, missing))}" if missing else "another process"
        raise LostContact(
            f"rank {processes.rank}: lost contact with {others} in {place()}; the same command "
            f"again goes on ({_first_line(text)})"
        ) from None


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0][:160]


def _missing(processes: Processes) -> list[int]:
    """The ranks that do not answer a roll call; empty where nobody can tell."""
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set(f"atd/survivor/{processes.rank}", "here")
    except (RuntimeError, ValueError):  # the store went down with the process that held it
        return [0] if processes.rank else []
    missing = []
    for rank in range(processes.count):
        try:
            store.wait([f"atd/survivor/{rank}"], _ANSWER)
        except (RuntimeError, ValueError):
            missing.append(rank)
    return missing

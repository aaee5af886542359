"""Scoring by the processes of a launcher: one gives out names and writes, all read and score."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator

from atd.data.remarks import Remarks
from atd.detectors.streaming import FileScore
from atd.training.processes import Processes

__all__ = ["score_together"]

_ROUND = 1024
"""Images that a process gets at a time."""

Score = Callable[[Iterable[str | None], Remarks], Iterator[FileScore]]


def score_together(
    processes: Processes, paths: Iterable[str | None], score: Score, remarks: Remarks
) -> Generator[FileScore, None, None]:
    """Shares files among processes; each of them has to run through the result.

    Args:
        processes: All that take part.
        paths: The files; only the main process looks at them.
        score: Scores some files, and notes what it notices.
        remarks: Takes in what all of them notice.

    Yields:
        On the main process a row for each file, in order; on the others nothing.
    """
    given = iter(paths)
    while True:
        parts: list[list[str | None]] = []
        if processes.is_main:
            parts = [list(itertools.islice(given, _ROUND)) for _ in range(processes.count)]
        parts = processes.agree(parts)
        if not parts or not parts[0]:
            return
        noticed = Remarks()
        mine = list(score(parts[processes.rank], noticed))
        for rows, found in processes.gather([(mine, noticed)]):
            remarks.add(found)
            if processes.is_main:
                yield from _unless_stopped(rows, processes)


def _unless_stopped(rows: list[FileScore], processes: Processes) -> Iterator[FileScore]:
    """The rows; if nobody wants them any more, the others are told before this ends."""
    try:
        yield from rows
    except GeneratorExit:
        processes.agree([])
        raise

"""Images as they come: names on standard input, or files that appear in folders."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence

from atd.data.given import given_images, names_as_they_come
from atd.data.listing import LeftOut
from atd.data.reading import notice

__all__ = ["watched_images"]

_PAUSE = 1.0
"""Seconds between two looks at a folder."""


def watched_images(
    names: Sequence[str], *, null: bool = False, pause: float = _PAUSE
) -> Iterator[str | None]:
    """Paths of images as they come; None where no more are there for the moment.

    Standard input is read to its end. Folders are looked at until somebody stops it; a file is
    taken once it has stopped growing, and again if it is replaced; its name is remembered. What
    lies there and is left out is told, and told again when there is more of it.

    Args:
        names: `-`, or files and folders.
        null: Whether names on standard input end with NUL instead of a line break.
        pause: Seconds between two looks at the folders.

    Yields:
        Each path, once for each version of the file.
    """
    if list(names) == ["-"]:
        yield from names_as_they_come(null=null)
        return
    seen: dict[str, tuple[int, int]] = {}
    growing: dict[str, tuple[int, int]] = {}
    told: dict[str, int] = {}
    while True:
        left_out = LeftOut()
        for path in given_images(names, left_out):
            stamp, age = _looked_at(path)
            if seen.get(path) == stamp:
                continue
            if growing.get(path) == stamp or age > pause:
                seen[path] = stamp
                growing.pop(path, None)
                yield path
            else:
                growing[path] = stamp
        _tell(left_out, told)
        yield None
        time.sleep(pause)


def _tell(left_out: LeftOut, told: dict[str, int]) -> None:
    """Tells the reasons that now hold for more files than were told before."""
    more = LeftOut()
    for reason, count in left_out.counts.items():
        if count > told.get(reason, 0):
            more.add(reason, left_out.examples[reason], count)
    told.update(more.counts)
    if more:
        notice(f"{more.total} left out: {more}")


def _looked_at(path: str) -> tuple[tuple[int, int], float]:
    """Size and time of the last change of a file, and how long ago that was."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0), math.inf  # its row will say why it cannot be read
    return (found.st_size, found.st_mtime_ns), time.time() - found.st_mtime

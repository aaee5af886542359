"""Images as they come: names on standard input, or files that appear in folders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from atd.data.given import given_images, names_as_they_come
from atd.data.listing import LeftOut

__all__ = ["watched_images"]

_PAUSE = 1.0
"""Seconds between two looks at a folder."""


def watched_images(
    names: Sequence[str], *, null: bool = False, pause: float = _PAUSE
) -> Iterator[str | None]:
    """Paths of images as they come; None where no more are there for the moment.

    Standard input is read to its end. Folders are looked at until somebody stops it; a file is
    taken once it has stopped growing, and only once, for which its name is remembered.

    Args:
        names: `-`, or files and folders.
        null: Whether names on standard input end with NUL instead of a line break.
        pause: Seconds between two looks at the folders.

    Yields:
        Each path once.
    """
    if list(names) == ["-"]:
        yield from names_as_they_come(null=null)
        return
    seen: set[str] = set()
    growing: dict[str, tuple[int, int]] = {}
    while True:
        for path in given_images(names, LeftOut()):
            if path not in seen and _is_settled(path, growing, pause):
                seen.add(path)
                yield path
        yield None
        time.sleep(pause)


def _is_settled(path: str, growing: dict[str, tuple[int, int]], pause: float) -> bool:
    """Whether a file has not changed for a while, by its own clock or since the last look."""
    try:
        found = os.stat(path)
    except OSError:
        return True  # its row will say why it cannot be read
    stamp = found.st_size, found.st_mtime_ns
    if growing.get(path) == stamp or time.time() - found.st_mtime > pause:
        growing.pop(path, None)
        return True
    growing[path] = stamp
    return False

"""How much memory the decoding of images may take: each one, and all that are decoded at once."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from PIL import Image

__all__ = ["LIMIT", "memory", "room_for", "shared_room", "take_share"]

LIMIT = 512 * 2**20
"""Bytes that decoding one image may take: 134 million pixels in colour."""

_UNIT = 32 * 2**20
_UNITS = 32
"""Images that are decoded at once take at most so many units, 1 GiB, beside the small ones."""
_SMALL = 4 * 2**20

_LIBRARIES = {"WEBP": 8, "JPEG2000": 12, "AVIF": 8, "HEIF": 8}
"""Bytes for a pixel that a format's library holds beside Pillow's image."""


class _Semaphore(Protocol):
    def acquire(self) -> bool: ...

    def release(self) -> None: ...


class _Room:
    """Room for large images, for threads or for processes.

    A large image takes several units one after the other, and nobody else begins meanwhile: two
    that each wait for their second half would wait for ever.
    """

    def __init__(
        self, room: Callable[[int], _Semaphore], entry: AbstractContextManager[bool], units: int
    ) -> None:
        self.room, self.entry, self.units = room(units), entry, units

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        units = 0 if size <= _SMALL else min(self.units, -(-size // _UNIT))
        if units:
            with self.entry:
                for _ in range(units):
                    self.room.acquire()
        try:
            yield
        finally:
            for _ in range(units):
                self.room.release()


_room = _Room(threading.Semaphore, threading.Lock(), _UNITS)


def memory(image: Image.Image, pixels: int) -> int:
    """Estimates how many bytes it takes to decode an image and to convert it.

    Args:
        image: As `Image.open` gives it, or as `draft` has reduced it; not yet loaded.
        pixels: How many the file holds.

    Returns:
        An upper estimate, from what the header says.
    """
    each = 4 if image.mode in ("1", "L", "P", "RGB", "YCbCr", "CMYK") else 8
    if image.has_transparency_data:
        each += 12
    # libjpeg holds the coefficients of a whole progressive image, whatever it makes of them.
    held = 2 * len(image.getbands()) * pixels if image.info.get("progressive") else 0
    return held + image.width * image.height * (each + _LIBRARIES.get(image.format or "", 0))


def room_for(size: int) -> AbstractContextManager[None]:
    """Waits until there is room for an image of so many bytes, and holds it; small ones pass."""
    return _room.taken(size)


def shared_room() -> _Room:
    """The whole room for forked processes to share, each of which calls `take_share` with it."""
    fork = multiprocessing.get_context("fork")
    return _Room(fork.Semaphore, fork.Lock(), _UNITS)


def take_share(of: _Room | int) -> None:
    """Sets the room of a process that has just begun.

    Args:
        of: What `shared_room` gave its parent; or how many processes divide the room evenly.
    """
    global _room
    if isinstance(of, int):
        _room = _Room(threading.Semaphore, threading.Lock(), max(1, _UNITS // of))
    else:
        _room = of

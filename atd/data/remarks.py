"""What is noticed while images are read: counted, and told in one line for a set."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

import PIL
from PIL import Image, _imaging

__all__ = ["Remarks", "collecting", "remarks_of"]

_EMPTY = 0.25
"""Deep images that stay below this share of their range leave it mostly empty."""


@dataclass
class Remarks:
    """Counts of what was noticed, each with the first image that showed it.

    Attributes:
        damaged: Images that Pillow or libtiff warned about.
        damaged_example: The first one, and what was said.
        deep: Images of more than 8 bits a channel.
        deep_example: The first one.
        peak: Brightest value among the deep images; 1 is what became white.
        clipped: Deep images with values below black or above white.
        clipped_example: The first one.
        dark_float: Images of floats above 1, for which 255 is white, though most are at most 1.
        dark_float_example: The first one.
    """

    damaged: int = 0
    damaged_example: str = ""
    deep: int = 0
    deep_example: str = ""
    peak: float = 0.0
    clipped: int = 0
    clipped_example: str = ""
    dark_float: int = 0
    dark_float_example: str = ""
    _reading: str = "an image"
    _counted: bool = False

    def reading(self, path: str) -> None:
        """Says which image is read next."""
        self._reading, self._counted = path, False

    def note_damage(self, text: str) -> None:
        """Notes a warning about the image that is being read; only the first one counts."""
        if not self._counted:
            self._counted = True
            self.damaged += 1
            self.damaged_example = self.damaged_example or f"{self._reading} ({text})"

    def note_depth(self, peak: float, clipped: bool) -> None:
        """Notes that the image has more than 8 bits a channel, and how bright it is."""
        self.deep += 1
        self.deep_example = self.deep_example or self._reading
        self.peak = max(self.peak, peak)
        if clipped:
            self.clipped += 1
            self.clipped_example = self.clipped_example or self._reading

    def note_dark_float(self) -> None:
        """Notes that the image's floats may have been meant to end at 1."""
        self.dark_float += 1
        self.dark_float_example = self.dark_float_example or self._reading

    def add(self, other: Remarks) -> None:
        """Adds the remarks on other images."""
        for kind in ("damaged", "deep", "clipped", "dark_float"):
            setattr(self, kind, getattr(self, kind) + getattr(other, kind))
            example = f"{kind}_example"
            setattr(self, example, getattr(self, example) or getattr(other, example))
        self.peak = max(self.peak, other.peak)

    def lines(self, scale: str) -> list[str]:
        """What a person should know; nothing where nothing was noticed.

        Args:
            scale: `data.scale` with which the images were read.
        """
        lines = []
        if self.damaged:
            lines.append(f"{self.damaged} image(s) with damaged tags, e.g. {self.damaged_example}")
        if self.deep and self.peak <= _EMPTY:
            line = f"{self.deep} image(s) of 16 bits use only {self.peak:.2%} of their range"
            if scale in ("auto", "16bit"):
                bits = next(b for b in (8, 10, 12, 14) if self.peak <= 1.01 * 2 ** (b - 16))
                line += f", as a camera of {bits} bits does; then set data.scale={bits}bit"
            lines.append(f"{line} (e.g. {self.deep_example})")
        if self.clipped:
            lines.append(
                f"{self.clipped} image(s) have values beyond data.scale={scale}, which become "
                f"black or white, e.g. {self.clipped_example}"
            )
        if self.dark_float:
            lines.append(
                f"{self.dark_float} image(s) of floats have values above 1, so that 255 is white, "
                "but most of their values are at most 1; clip them there if 1 is white, e.g. "
                f"{self.dark_float_example}"
            )
        return lines


_current: ContextVar[Remarks | None] = ContextVar("remarks", default=None)


def remarks_of() -> Remarks | None:
    """The remarks that are being collected around the caller, if any."""
    return _current.get()


@contextmanager
def collecting() -> Iterator[Remarks]:
    """Collects what is noticed about the images that this thread reads within.

    The warnings of Pillow and libtiff are counted instead of printed.
    """
    remarks = Remarks()
    token = _current.set(remarks)
    try:
        with _listening():
            yield remarks
    finally:
        _current.reset(token)


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if remarks := _current.get():
            remarks.note_damage(record.getMessage())


_lock = threading.Lock()
_listeners = 0
_handler = _Log()
_caught = warnings.catch_warnings()


@contextmanager
def _listening() -> Iterator[None]:
    """Diverts warnings while at least one thread collects: they are the whole process's."""
    global _listeners, _caught
    log = logging.getLogger("PIL")
    with _lock:
        _listeners += 1
        if _listeners == 1:
            _listen_to_libtiff()
            _caught = warnings.catch_warnings()
            _caught.__enter__()
            warnings.filterwarnings("always", module=r"PIL\.")
            warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
            warnings.showwarning = _divert(warnings.showwarning)
            log.addHandler(_handler)
            log.propagate = False
    try:
        yield
    finally:
        with _lock:
            _listeners -= 1
            if not _listeners:
                log.propagate = True
                log.removeHandler(_handler)
                _caught.__exit__(None, None, None)


def _divert(show: Callable[..., None]) -> Callable[..., None]:
    def divert(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        remarks = _current.get()
        if remarks and os.path.dirname(filename) == os.path.dirname(PIL.__file__):
            remarks.note_damage(" ".join(str(message).split()))
        else:
            show(message, category, filename, lineno, file, line)

    return divert


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


def _from_libtiff(_: bytes | None, text: bytes | None, __: int | None) -> None:
    if remarks := _current.get():
        remarks.note_damage("libtiff: " + (text or b"").decode("ascii", "replace"))


_for_libtiff = _HANDLER(_from_libtiff)


def _listen_to_libtiff() -> None:
    """Takes libtiff's messages, which it writes to the process's standard error otherwise."""
    library = ctypes.CDLL(_imaging.__file__)  # finds what Pillow's own library is linked with
    for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
        if hasattr(library, name):  # not where it is linked statically
            getattr(library, name)(_for_libtiff)

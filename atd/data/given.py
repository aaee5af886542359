"""Images as a person names them on a command line: files, folders, and lists on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from atd.data.listing import LeftOut, walk_images
from atd.errors import UserError, printable

__all__ = ["given_images", "names_as_they_come", "require_given"]

_BLOCK = 2**16


def require_given(names: Sequence[str], *, may_be_empty: bool = False) -> None:
    """Checks what was named before the work begins; standard input is not touched.

    Args:
        names: Files, folders, or `-`.
        may_be_empty: Whether a folder without images will do.

    Raises:
        UserError: One is not there, or is a folder without images.
    """
    for name in names:
        if name == "-":
            continue
        if not os.path.lexists(name):
            hint = "; leave folder: out here" if name.startswith("folder:") else ""
            raise UserError(f"{printable(name)}: no such file or folder{hint}")
        left_out = LeftOut()
        if may_be_empty or not os.path.isdir(name):
            continue
        if next(walk_images(name, left_out), None) is None:
            besides = f"; left out: {left_out}" if left_out else ""
            raise UserError(f"{printable(name)}: no images in this folder{besides}")


def given_images(names: Sequence[str], left_out: LeftOut, *, null: bool = False) -> Iterator[str]:
    """Paths of all images, in the order given; of a folder its own files first, sorted.

    Nothing is held in memory but the names in one folder at a time.

    Args:
        names: Files, folders, or `-` for a list of them on standard input.
        left_out: Takes in what folders hold besides images.
        null: Whether names on standard input end with NUL instead of a line break.

    Yields:
        Each path. It need not be readable, nor there if it came from standard input.
    """
    for name in names:
        if name == "-":
            for line in names_as_they_come(null=null):
                yield from _images(line, left_out) if line is not None else ()
        else:
            yield from _images(name, left_out)


def _images(name: str, left_out: LeftOut) -> Iterator[str]:
    if not os.path.isdir(name):
        yield name
        return
    inside = LeftOut()
    for file in walk_images(name, inside):
        yield os.path.join(name, file)
    for reason, count in inside.counts.items():
        left_out.add(reason, os.path.join(name, inside.examples[reason]), count)


def names_as_they_come(*, null: bool = False) -> Iterator[str | None]:
    """Names from standard input, with bytes that are not UTF-8 as Python writes them in paths.

    Args:
        null: Whether they end with NUL instead of a line break.

    Yields:
        Each name, and None before more of them are waited for.
    """
    rest, end = b"", b"\0" if null else b"\n"
    while block := _read_block():
        *names, rest = (rest + block).split(end)
        yield from filter(None, map(_name, names))
        yield None
    if rest:
        yield from filter(None, [_name(rest)])


def _read_block() -> bytes:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:  # replaced by text, as in notebooks
        return sys.stdin.read(_BLOCK).encode("utf-8", "surrogateescape")
    block: bytes = stream.read1(_BLOCK)
    return block


def _name(raw: bytes) -> str:
    return os.fsdecode(raw.rstrip(b"\r\n"))

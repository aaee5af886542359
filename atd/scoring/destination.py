"""Where rows are written to: standard output, or a file that is whole or absent."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from atd.errors import UserError
from atd.files import replacing

__all__ = ["destination"]


@contextlib.contextmanager
def destination(output: str | None, *, at_once: bool = False) -> Iterator[TextIO]:
    """Opens standard output, or a file that appears only once it is complete.

    Args:
        output: The file; None for standard output.
        at_once: Pass every line of standard output on as it comes.

    Yields:
        Where to write.

    Raises:
        UserError: The file cannot be written.
    """
    if output is None:
        with contextlib.suppress(AttributeError):  # replaced by something else, as in notebooks
            sys.stdout.reconfigure(encoding="utf-8", line_buffering=at_once)  # type: ignore[union-attr]
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        with (
            replacing(Path(output)) as fresh,
            fresh.open("w", encoding="utf-8", newline="") as stream,
        ):
            yield stream
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None

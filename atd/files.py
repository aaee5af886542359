"""Files that are whole or absent, whenever the process is stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_text"]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Gives a temporary name beside a file and renames it into place on success.

    Args:
        file: The file to write; its folder is made where it is missing.

    Yields:
        The temporary path to write to; it is removed after an exception.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Writes a text file that ends with one line break; its folder is made where it is missing."""
    with replacing(file) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")

"""Reading files that a user named: plain ones only, and no more than is to be expected."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from atd.errors import UserError

__all__ = ["read_regular", "require_regular"]


def require_regular(file: Path) -> None:
    """Refuses what is not a plain file: reading a pipe or a device may never end.

    Raises:
        UserError: It is missing, out of reach, a folder, a pipe, a socket or a device.
    """
    try:
        mode = file.stat().st_mode
        if stat.S_ISREG(mode) and not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{file}: cannot be read: not a regular file")


def read_regular(file: Path, most: int) -> bytes:
    """The content of a plain file.

    Args:
        file: The file.
        most: Bytes that it may have.

    Raises:
        UserError: It cannot be read, is not a plain file, or is larger.
    """
    require_regular(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise UserError(f"{file}: cannot be read: larger than {most} bytes")
    return content

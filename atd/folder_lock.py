"""One job at a time in a folder, also when the launcher of an earlier job was killed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from atd.errors import UserError
from atd.files import try_lock

__all__ = ["hold", "release"]

_PATIENCE = 15.0
"""Seconds: data workers of a killed process keep its lock until they notice, within five."""

_held: dict[Path, int] = {}


def hold(file: Path) -> None:
    """Locks a file until `release` or the end of this process, however it ends.

    A process that holds the lock already keeps it. Where the system or the file system has no
    locks, nothing happens.

    Args:
        file: The lock file; made where it is missing.

    Raises:
        UserError: Another process holds the lock and does not end within 15 seconds.
        OSError: The file cannot be made.
    """
    file = file.resolve()
    if file in _held and _is_open(file, _held[file]):
        return
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + _PATIENCE
    while try_lock(handle) is False:
        if time.monotonic() > end:
            os.close(handle)
            raise UserError(
                f"{file.parent.parent}: another process is training in this folder; wait until it "
                "is done, or end it"
            )
        time.sleep(0.2)
    _held[file] = handle


def release(file: Path) -> None:
    """Gives a lock of this process back."""
    handle = _held.pop(file.resolve(), None)
    if handle is not None:
        os.close(handle)


def _is_open(file: Path, handle: int) -> bool:
    """Whether the handle is of the file that has this name now: the folder may be a new one."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), file.stat())
    return False

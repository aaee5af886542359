"""Files and folders that are whole or absent, whenever the process is stopped.

What is new is made in a private folder beside its place, `.NAME.TOKEN.atd-tmp`, and renamed when
it is complete. The name is unique, so nothing of anybody else's is ever overwritten, followed or
deleted; its maker holds a lock on it, so what killed processes left is told from what is being
made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atd.errors import UserError
from atd.exchange import exchange_at_once

__all__ = [
    "clear_litter",
    "is_litter",
    "is_special",
    "replacing",
    "replacing_folder",
    "require_ours",
    "require_writable",
    "sync",
    "try_lock",
    "write_text",
]

_LITTER = re.compile(r"\.(.*)\.[0-9a-f]{16}\.atd-tmp", re.DOTALL)
_OLD = "replaced by the new one"
"""Where the fallback of an exchange keeps the old folder between its two renames."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Gives a temporary file, which takes the place of a file on success.

    A link in that place is replaced, not followed. A device, a pipe or `/dev/stdout` stays what
    it is: the content is written to it once it is complete.

    Args:
        file: The file to write; its folder is made where it is missing.

    Yields:
        The temporary file, empty, of the same name in a private folder; gone after an exception.

    Raises:
        OSError: The file cannot be written, or is a folder (told before anything is done).
    """
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if is_special(file):
        with tempfile.TemporaryDirectory(prefix="atd-") as private:
            temporary = Path(private, "output")
            temporary.touch()
            yield temporary
            _pour(temporary, file)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with _private(file) as temporary:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if file.is_file() and not file.is_symlink():
            mode = stat.S_IMODE(file.stat().st_mode)
        temporary.chmod(mode)  # some libraries make files that only their owner can read
        sync(temporary)
        os.replace(temporary, file)
        sync(file.parent)


def write_text(file: Path, text: str) -> None:
    """Writes a text file that ends with one line break; its folder is made where it is missing."""
    with replacing(file) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")


@contextmanager
def replacing_folder(folder: Path, *, ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """Gives a temporary folder, which takes the place of a folder on success.

    On Linux the two are exchanged in one step: whoever looks finds the old or the new one. Where
    the system or the file system cannot do that, there is neither for a moment.

    Args:
        folder: The folder to write; those above it are made where they are missing.
        ours: Whether an existing folder that is not empty was written by us and may go.
        what: What is written, for messages, e.g. "a detector".

    Yields:
        The temporary folder, empty, of the same name in a private folder; gone after an exception.

    Raises:
        UserError: There is something else in the folder's place; it is not touched.
        OSError: The folder cannot be written.
    """
    require_ours(folder, ours=ours, what=what)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _private(folder) as fresh:
        fresh.mkdir()
        yield fresh
        require_ours(folder, ours=ours, what=what)
        mode = stat.S_IMODE(fresh.stat().st_mode) & 0o666
        for entry in [*(path for path in fresh.rglob("*") if path.is_file()), fresh]:
            if entry != fresh:
                entry.chmod(mode)
            sync(entry)
        _exchange(fresh, folder)
        sync(folder.parent)


def require_ours(folder: Path, *, ours: Callable[[Path], bool], what: str) -> None:
    """Refuses to write where there is something of somebody else's; before hours of work.

    Args:
        folder: The folder that is to be written.
        ours: Whether an existing folder that is not empty was written by us and may go.
        what: What is to be written, for messages, e.g. "a detector".

    Raises:
        UserError: There is something else in the folder's place, or no folder of that name
            can be.
    """
    try:
        folder.lstat()
        is_folder = folder.is_dir()
        entries = is_folder and any(folder.iterdir())
    except FileNotFoundError:
        if not folder.is_symlink():
            return
        is_folder = entries = False
    except (OSError, ValueError) as error:  # too long, out of reach, or with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{folder}: cannot be written: {reason}; choose another folder") from None
    if is_folder:
        if entries and not ours(folder):
            raise UserError(
                f"{folder}: exists and is not {what}; it stays as it is, choose another folder"
            )
    else:
        raise UserError(f"{folder}: exists and is no folder; move it away, or choose another name")


def require_writable(folder: Path) -> None:
    """Refuses a folder that nothing can be written to, before hours of work; it is not made.

    Raises:
        UserError: Neither it nor, where it is missing, the nearest folder above it takes files.
    """
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".atd-", dir=place):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror}; choose another folder"
        ) from None


def clear_litter(folder: Path) -> None:
    """Removes what killed processes left half-made in a folder; nothing that has another name."""
    for entry in folder.glob(".*.atd-tmp"):
        if match := _LITTER.fullmatch(entry.name):
            _clear(entry, folder / match[1])


def is_litter(entry: Path) -> bool:
    """Whether something is called as what a killed process left half-made."""
    return _LITTER.fullmatch(entry.name) is not None


def try_lock(handle: int) -> bool | None:
    """Locks an open file or folder until it is closed, however the process ends.

    Args:
        handle: The file's descriptor.

    Returns:
        Whether the lock was free; None where the system or the file system has no locks.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


@contextmanager
def _private(target: Path) -> Iterator[Path]:
    """A path of the target's name in a new, locked folder beside it; earlier litter goes."""
    private, handle = _make_private(target)
    try:
        yield private / target.name
        _clear_others(target, private)
    finally:
        _restore(private, target)
        shutil.rmtree(private, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _make_private(target: Path) -> tuple[Path, int | None]:
    # A file name may have 255 bytes; the start of a long one is enough.
    stem = os.fsdecode(os.fsencode(target.name)[:180])
    while True:
        private = target.parent / f".{stem}.{secrets.token_hex(8)}.atd-tmp"
        private.mkdir(mode=0o700)
        handle = _open_folder(private)
        if handle is None:
            return private, None
        try_lock(handle)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), private.stat()):
                return private, handle
        os.close(handle)  # somebody took it for litter before it was locked


def _clear_others(target: Path, private: Path) -> None:
    stem = private.name.removesuffix(".atd-tmp")[:-16]
    for entry in target.parent.iterdir():
        match = _LITTER.fullmatch(entry.name)
        if match and f".{match[1]}." == stem and entry != private:
            _clear(entry, target)


def _clear(litter: Path, target: Path) -> None:
    handle = _open_folder(litter)  # a link is not followed, a file has nothing inside
    if handle is None:
        return
    try:
        if try_lock(handle):
            _restore(litter, target)
            shutil.rmtree(litter, ignore_errors=True)
    finally:
        os.close(handle)


def _open_folder(folder: Path) -> int | None:
    with contextlib.suppress(OSError):
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0)
        return os.open(folder, os.O_RDONLY | flags)
    return None


def _restore(private: Path, target: Path) -> None:
    """Brings an old folder back whose exchange was cut in two."""
    old = private / _OLD
    if old.exists() and not os.path.lexists(target):
        os.replace(old, target)


def _exchange(fresh: Path, folder: Path) -> None:
    """Puts a folder in another's place; what was there is in the private folder afterwards."""
    if not os.path.lexists(folder):
        os.replace(fresh, folder)
    elif not exchange_at_once(fresh, folder):
        os.replace(folder, fresh.with_name(_OLD))
        os.replace(fresh, folder)


def is_special(file: Path) -> bool:
    """Whether a path leads to a device, a pipe or an open descriptor such as `/dev/stdout`."""
    place = file
    for _ in range(40):  # as many links as Linux follows
        if Path("/proc") in place.parent.resolve().parents:
            return True
        if not place.is_symlink():
            break
        place = place.parent / os.readlink(place)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return not stat.S_ISREG(file.stat().st_mode)
    return False


def _pour(source: Path, target: Path) -> None:
    # Appending: a shell's `>> FILE` behind /dev/stdout keeps what it has.
    handle = os.open(target, os.O_WRONLY | os.O_APPEND)
    with source.open("rb") as content, open(handle, "wb") as stream:
        shutil.copyfileobj(content, stream)


def sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut where that is possible.

    Raises:
        OSError: The disk is full or broken.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)

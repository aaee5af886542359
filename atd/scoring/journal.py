"""Rows of a score file that is not complete yet, so that the same command goes on after a kill.

They lie in `OUTPUT.partial`, in whole blocks: what is scored anew comes in the batches that it
would have come in without the interruption, so that not even rounding differs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from atd.data.reading import notice
from atd.detectors.streaming import BATCH, FileScore
from atd.errors import UserError
from atd.files import try_lock

__all__ = ["Journal", "keeping"]

Score = Callable[[Iterable[str | None]], Generator[FileScore, None, None]]


class Journal:
    """An open file of rows.

    Args:
        file: Its path, for messages.
        stream: The file itself, at its beginning.
        key: What scores depend on beside the images; rows of another key are dropped.

    Raises:
        UserError: It holds something else.
    """

    def __init__(self, file: Path, stream: BinaryIO, key: str) -> None:
        self.file, self._stream = file, stream
        header = json.dumps({"unfinished scores of": key}).encode() + b"\n"
        found = stream.readline(1000)
        if found and not found.startswith(header[:24]):
            raise UserError(f"{file}: exists and holds no unfinished scores; move it away")
        if found != header:
            stream.seek(0)
            stream.truncate()
            stream.write(header)
            stream.flush()
        self.blocks, self._end = 0, len(header)

    def rows(self, paths: Iterable[str | None], score: Score) -> Generator[FileScore, None, None]:
        """Rows of all files: the kept ones as long as they are of these files, then new ones.

        Args:
            paths: The files.
            score: Gives rows for those that have none yet.

        Yields:
            A row for each file, in order.
        """
        given = iter(paths)
        names: list[str | None] = []
        while (names := list(itertools.islice(given, BATCH))) and (kept := self._next(names)):
            yield from kept
        self._stream.seek(self._end)
        self._stream.truncate()
        if self.blocks:
            notice(f"{self.blocks * BATCH:,} image(s) were scored before; going on")
        with contextlib.closing(score(itertools.chain(names, given))) as fresh:
            yield from self._keeping(fresh)

    def _next(self, names: Sequence[str | None]) -> list[FileScore]:
        """The rows of a block of files; none where they are not there, or of other files."""
        lines = list(itertools.islice(self._stream, BATCH))
        try:
            rows = [_row(line) for line in lines]
        except (ValueError, RecursionError):
            return []
        if len(rows) < BATCH or [row.path for row in rows] != names or lines[-1][-1:] != b"\n":
            return []
        self.blocks += 1
        self._end += sum(map(len, lines))
        return rows

    def _keeping(self, rows: Iterator[FileScore]) -> Iterator[FileScore]:
        lines: list[str] = []
        for row in rows:
            yield row
            lines.append(json.dumps([row.path, row.score, row.error, row.readable]) + "\n")
            if len(lines) == BATCH:
                self._stream.write("".join(lines).encode())
                self._stream.flush()
                self.blocks += 1
                lines.clear()


def _row(line: bytes) -> FileScore:
    match json.loads(line):
        case [str(path), float() | None as score, str(error), bool(readable)] if (
            score is None or math.isfinite(score)
        ):
            return FileScore(path, score, error, readable)
    raise ValueError("no row")


@contextlib.contextmanager
def keeping(output: Path, key: str) -> Iterator[Journal]:
    """Keeps the rows of an output file until it is complete.

    Args:
        output: The file that is to be written.
        key: See `Journal`.

    Yields:
        The journal. Its file goes when the work within is done, and stays after an exception if
        there is anything in it.

    Raises:
        UserError: The file cannot be written, is something else, or another command has it.
    """
    file = output.with_name(output.name + ".partial")
    done = False
    with _opened(file) as stream:
        journal = Journal(file, stream, key)
        try:
            yield journal
            done = True
        finally:
            if done or not journal.blocks:
                file.unlink(missing_ok=True)
            else:
                notice(f"{file}: keeps {journal.blocks * BATCH:,} scores; the same command goes on")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, flags | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{file}: cannot be written: not a regular file")
    with os.fdopen(handle, "r+b") as stream:
        if try_lock(handle) is False:
            raise UserError(f"{file}: another command is writing it; choose another --output")
        yield stream

"""What one process of a run did and when, for whoever has to find out which one went wrong."""

from __future__ import annotations

import contextlib
import os
import platform
import time
import traceback
from pathlib import Path
from typing import TextIO

from atd.errors import Interrupted, LostContact, UserError
from atd.training.processes import Processes

__all__ = ["RankLog"]

_SAID_IN_ONE_LINE = (Interrupted, LostContact, UserError)


class RankLog:
    """A text file of a process: a line for each step that is logged, each epoch and each message.

    Nothing is written before `start`. Used as a context, it also writes down the exception that
    ends the process, faults of ours with their traceback.

    Args:
        file: The file, which is continued; None writes nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._handle: TextIO | None = None

    def start(self, processes: Processes) -> None:
        """Opens the file and says which process this is.

        Raises:
            UserError: The file cannot be written.
        """
        if self.file is None or self._handle is not None:
            return
        try:
            self.file.parent.mkdir(exist_ok=True)
            self._handle = self.file.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(
                f"{self.file}: cannot be written ({error.strerror}); use run.rank_logs=false"
            ) from None
        self.write(
            f"start: rank {processes.rank} of {processes.count} on {platform.node()}, "
            f"process {os.getpid()}, device {processes.device}"
        )

    def write(self, text: str) -> None:
        """Writes a line with the time of day before it; further lines of the text are indented."""
        if self._handle is not None:
            lines = text.strip().replace("\n", "\n    ")
            self._handle.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {lines}\n")

    def __enter__(self) -> RankLog:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            ours = isinstance(error, Exception) and not isinstance(error, _SAID_IN_ONE_LINE)
            told = traceback.format_exception if ours else traceback.format_exception_only
            with contextlib.suppress(OSError):  # the disk may be full: that is said elsewhere
                self.write("".join(told(error)))
        if self._handle is not None:
            self._handle.close()
            self._handle = None

"""The time that a run has taken, over all commands that went on with it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from atd.files import write_text

__all__ = ["Clock"]


class Clock:
    """Counts the seconds of a run, also of commands that were killed.

    A command notes when it began. The next one takes the newest file of the run's state as its end.

    Args:
        folder: The run folder; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began, self.before = time.time(), 0.0
        self.settled: list[str] = []
        """Stages that have been fitted into what was left."""

    def start(self, *, anew: bool = False) -> None:
        """Adds the time of earlier commands, and notes that this one has begun.

        Args:
            anew: Whether nothing is left of earlier commands, which then do not count.
        """
        if not anew:
            self._go_on()
        self._note()

    def _go_on(self) -> None:
        try:
            noted = json.loads(self._file.read_text(encoding="utf-8"))
            began, before = float(noted["began"]), float(noted["before"])
            self.before = before + max(0.0, min(self._newest(), self.began) - began)
            self.settled = [str(stage) for stage in noted["settled"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.before = 0.0

    def settle(self, stage: str) -> None:
        """Notes that a stage has been fitted into what was left."""
        self.settled.append(stage)
        self._note()

    def _note(self) -> None:
        values = {"began": self.began, "before": self.before, "settled": self.settled}
        write_text(self._file, json.dumps(values))

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self.before + time.time() - self.began

    @property
    def _file(self) -> Path:
        return self.folder / "state" / "clock.json"

    def _newest(self) -> float:
        """When a file of the run was last written, the clock's own apart."""
        files = {self.folder / "stats.jsonl", *(self.folder / "state").rglob("*")} - {self._file}
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

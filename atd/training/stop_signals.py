"""Ctrl-C and SIGTERM during training: noted, and answered between two steps."""

from __future__ import annotations

import signal

from atd.errors import signalled

__all__ = ["StopSignals"]


class StopSignals:
    """Turns SIGINT and SIGTERM into the flag `asked`; the handlers before it come back after it.

    A signal that nobody answered, since the training was just ending, is raised then.
    """

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __enter__(self) -> StopSignals:
        self._previous = {}
        self.asked = signalled()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: the caller handles signals
                return self
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt

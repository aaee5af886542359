"""Time that a process loses: a stopwatch, and the one that runs while processes exchange things."""

from __future__ import annotations

import time

__all__ = ["Stopwatch", "exchanging"]


class Stopwatch:
    """Adds up the seconds spent within it, on the host's clock; it does not nest.

    On CUDA work is only queued, so what is measured is for how long the host was held up.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> Stopwatch:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since


exchanging = Stopwatch()
"""Runs while this process exchanges something with others; waiting for a slower one counts."""

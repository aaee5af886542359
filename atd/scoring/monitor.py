"""Tells on the way, and at the end, whether a stream still looks like the calibration images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from atd.data.reading import notice
from atd.detectors.calibration import CalibrationSample
from atd.detectors.streaming import FileScore
from atd.drift import Tally

__all__ = ["monitored"]


def monitored(
    rows: Iterable[FileScore], sample: CalibrationSample, threshold: float | None, every: int
) -> Iterator[FileScore]:
    """Passes rows on and summarises their scores on standard error.

    Args:
        rows: The rows.
        sample: The calibration sample.
        threshold: A score above it is out-of-distribution.
        every: Images of a summary; 0 makes one at the end only.

    Yields:
        The rows.
    """
    whole, window = (Tally(sample.scores.numpy(), threshold) for _ in range(2))
    for count, row in enumerate(rows, start=1):
        if row.score is not None:
            whole.add(row.score)
            window.add(row.score)
        yield row
        if every and count % every == 0:
            if found := window.drift():
                notice(f"images {count - every + 1:,} to {count:,}: {found}")
            window.clear()
    if found := whole.drift():
        notice(str(found))

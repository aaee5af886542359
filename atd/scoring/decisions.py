"""What a score means: flagged or not, and how unusual among the calibration images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from atd.detectors.calibration import CalibrationSample
from atd.detectors.streaming import FileScore
from atd.order_statistics import PValues

__all__ = ["decided"]


def decided(
    rows: Iterable[FileScore], threshold: float | None, sample: CalibrationSample | None
) -> Iterator[FileScore]:
    """Adds decisions to rows. An image in doubt is never in-distribution.

    Args:
        rows: The rows.
        threshold: A score above it is out-of-distribution; None leaves it open.
        sample: The calibration sample, where p-values are wanted.

    Yields:
        The rows; one without a score is out-of-distribution, with a p-value of 0.
    """
    p_value = None if sample is None else PValues(sample.scores.tolist())
    for row in rows:
        if row.score is None:
            yield dataclasses.replace(row, is_ood=True, p_value=0.0 if p_value else None)
        else:
            yield dataclasses.replace(
                row,
                is_ood=None if threshold is None else not row.score <= threshold,
                p_value=p_value(row.score) if p_value else None,
            )

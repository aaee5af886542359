"""Whether the scores of a stream are still like those of the calibration images."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Drift", "Tally"]

_SURPRISING = 1e-3
"""A p-value below it is told as a difference; by chance one summary in a thousand has it."""


@dataclass(frozen=True)
class Drift:
    """How a stream of scores compares with the calibration scores.

    Attributes:
        images: Images with a score.
        flagged: How many of them score above the threshold; None without one.
        expected: Share of the calibration scores above it.
        sample: How many calibration scores there are.
        p_value: Of the two-sample Kolmogorov-Smirnov test.
    """

    images: int
    flagged: int | None
    expected: float
    sample: int
    p_value: float

    @property
    def differs(self) -> bool:
        """Whether the scores are hardly from the same distribution."""
        return self.p_value < _SURPRISING

    def __str__(self) -> str:
        shares = ""
        if self.flagged is not None:
            share = self.flagged / self.images
            shares = f", {share:.1%} flagged, {self.expected:.1%} expected"
        text = (
            f"drift: {self.images:,} image(s){shares}; scores "
            f"{'UNLIKE' if self.differs else 'like'} the {self.sample:,} of the calibration "
            f"(Kolmogorov-Smirnov p = {self.p_value:.2g})"
        )
        if not self.differs:
            return text
        return f"{text}: more outliers, or another camera, light or preprocessing"


class Tally:
    """Counts the scores of a stream between those of a sample; it grows with the sample only.

    The largest distance between the two distribution functions lies at a score of the sample, or
    just below one, so these counts give the Kolmogorov-Smirnov statistic exactly.

    Args:
        sample: Calibration scores (N,).
        threshold: A score above it is flagged; None flags nothing.
    """

    def __init__(self, sample: npt.ArrayLike, threshold: float | None) -> None:
        values, counts = np.unique(np.asarray(sample, dtype=np.float64), return_counts=True)
        self._values: list[float] = values.tolist()
        self._expected = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
        self._sample, self._threshold = int(counts.sum()), threshold
        above = counts[values > (math.inf if threshold is None else threshold)]
        self._share = float(above.sum() / self._sample)
        self.clear()

    def clear(self) -> None:
        """Forgets the stream."""
        # Scores below the first value, at it, between it and the second, at the second, ...
        self._counts = [0] * (2 * len(self._values) + 1)
        self._images = self._flagged = 0

    def add(self, score: float) -> None:
        """Counts a finite score."""
        place = bisect.bisect_left(self._values, score)
        met = place < len(self._values) and self._values[place] == score
        self._counts[2 * place + met] += 1
        self._images += 1
        self._flagged += self._threshold is not None and score > self._threshold

    def drift(self) -> Drift | None:
        """What was counted; None where nothing was."""
        if not self._images:
            return None
        return Drift(
            images=self._images,
            flagged=None if self._threshold is None else self._flagged,
            expected=self._share,
            sample=self._sample,
            p_value=self._p_value(),
        )

    def _p_value(self) -> float:
        """Asymptotic, as `scipy.stats.ks_2samp(method="asymp")`."""
        from scipy.stats import kstwo

        found = np.array(list(itertools.accumulate(self._counts))) / self._images
        # Just below a value of the sample, and at it.
        apart = (
            np.abs(found[0:-1:2] - self._expected[:-1]),
            np.abs(found[1::2] - self._expected[1:]),
        )
        distance = max(float(gap.max()) for gap in apart)
        effective = self._images * self._sample / (self._images + self._sample)
        return float(np.clip(kstwo.sf(distance, max(1, round(effective))), 0.0, 1.0))

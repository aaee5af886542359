"""What a sample of scores says of scores to come: exact, whatever their distribution.

Of n exchangeable scores, and one more like them, each is equally likely to have any rank. Nothing
else is used: no shape of the distribution, no large numbers (Vovk et al., 2005; Lei et al., 2018,
arXiv:1604.04173).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atd.errors import UserError
from atd.metrics import Array

__all__ = ["LEVEL", "Limit", "PValues", "images_for", "limit_below", "share_interval"]

LEVEL = 0.95
"""Confidence of every interval."""

_MOST = 10**9


@dataclass(frozen=True)
class Limit:
    """A threshold under which a share of scores lies, and how well a sample knows it.

    Attributes:
        value: The threshold, one of the scores.
        share: The share that was asked for.
        rank: Which score it is, counted from 1 upwards.
        under: Scores of the sample that are not above it; more than `rank` where some tie.
        count: Scores in the sample.
        bounds: Interval of the threshold that an endless sample would give; None is no bound.
    """

    value: float
    share: float
    rank: int
    under: int
    count: int
    bounds: tuple[float | None, float | None]

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the share of scores to come that is not above the threshold.

        Clopper & Pearson's (1934). It holds although the threshold comes from the same scores: the
        share below the r-th of n is distributed as Beta(r, n - r + 1), whose quantile is the lower
        end; the upper end only grows with the scores that tie.
        """
        return share_interval(self.rank, self.count)[0], share_interval(self.under, self.count)[1]

    @property
    def count_for_half(self) -> int:
        """Scores with which the interval would be half as wide."""
        low, high = share_interval(self.rank, self.count)
        few, many = self.count, self.count + 1
        while _width(self.share, many) > (high - low) / 2 and many < _MOST:
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            wide = _width(self.share, middle) > (high - low) / 2
            few, many = (middle, many) if wide else (few, middle)
        return many


def limit_below(scores: npt.ArrayLike, share: float, what: str) -> Limit:
    """The smallest threshold that one more score exceeds with a chance of at most 1 - share.

    Args:
        scores: A sample (N,) of finite scores, at least `images_for(share)`.
        share: Between 0 and 1.
        what: Who asks, for messages, e.g. `--accept 0.99`.

    Returns:
        The threshold: the score of rank ceil((N + 1) share).

    Raises:
        UserError: The share is impossible, or there are too few scores.
    """
    if not 0.0 < share < 1.0:
        raise UserError(f"{what}: no threshold can promise that; give a share above 0 and below 1")
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    count, rank = len(ordered), _rank(share, len(ordered))
    if rank > count:
        raise UserError(
            f"{what}: it takes at least {images_for(share):,} images, and there are {count:,}; "
            "give more images, or a share that is further from 1"
        )
    value = float(ordered[rank - 1])
    under = int(np.searchsorted(ordered, value, side="right"))
    return Limit(value, share, rank, under, count, _bounds(ordered, share))


def images_for(share: float) -> int:
    """The fewest scores from which a threshold for a share between 0 and 1 follows."""
    return math.ceil(share / (1 - share) - 1e-9)


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """Clopper & Pearson's interval of a share of which `hits` of `count` were seen."""
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


class PValues:
    """Conformal p-values: the share of sample and score together that is at least as large.

    For a score exchangeable with the sample, a p-value of at most `a` has at most the chance `a`.
    It is so just where the score lies above `limit_below(sample, 1 - a)`.

    Args:
        sample: Scores of ID images.
    """

    def __init__(self, sample: Iterable[float]) -> None:
        self._ordered = sorted(sample)

    def __call__(self, score: float) -> float:
        """The p-value of a finite score, from 1 / (N + 1) to 1; larger scores have smaller ones."""
        below = bisect.bisect_left(self._ordered, score)
        return (1 + len(self._ordered) - below) / (1 + len(self._ordered))


def _rank(share: float, count: int) -> int:
    # 0.95 * 20 may come out as 19.000000000000004, which must not ask for a 20th score.
    return max(1, math.ceil((count + 1) * share - 1e-9))


def _width(share: float, count: int) -> float:
    low, high = share_interval(min(_rank(share, count), count), count)
    return high - low


def _bounds(ordered: Array, share: float) -> tuple[float | None, float | None]:
    """Order statistics between which the quantile lies: a binomial count decides which."""
    from scipy.stats import binom

    count, tail = len(ordered), (1 - LEVEL) / 2
    low, high = int(binom.ppf(tail, count, share)), int(binom.ppf(1 - tail, count, share)) + 1
    return (
        float(ordered[low - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= count else None,
    )

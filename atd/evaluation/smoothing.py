r"""Median smoothing: how far a perturbation can move the median of a score under Gaussian noise.

The smoothed score of an image x is the (smallest) median of s(x + noise), noise ~ N(0, sigma^2 I).
Chiang et al., 2020 (arXiv:2007.03730, theorem 1): whatever s is, a perturbation of Euclidean length
r moves the median no further than to the percentile Phi(r / sigma) of the unperturbed image, nor
below the percentile Phi(-r / sigma). Percentiles are bounded by order statistics of drawn scores,
with exact binomial probabilities. Where no order statistic will do, the bound is infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from atd.metrics import Array

__all__ = ["Smoothing", "rank_above"]


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How scores are smoothed and what is claimed of them.

    Attributes:
        sigma: Standard deviation of the noise on the [0, 1] scale.
        draws: Noisy copies of each image.
        radii: L2 radii on the [0, 1] scale at which bounds are asked for; 0 comes on top.
        confidence: Probability, over the noise, with which all bounds hold at once.
    """

    sigma: float = 0.25
    draws: int = 1000
    radii: tuple[float, ...] = (0.1, 0.25, 0.5)
    confidence: float = 0.999

    @cached_property
    def at(self) -> tuple[float, ...]:
        """All radii, 0 among them, in ascending order."""
        return tuple(sorted({0.0, *self.radii}))

    def error(self, images: int) -> float:
        """Probability with which a single bound may fail, by Bonferroni.

        Each image gets one bound at each radius: ID images from above, OOD images from below.

        Args:
            images: All images that a statement is about.
        """
        return (1.0 - self.confidence) / (images * len(self.at))

    def upper_bounds(self, scores: Array, images: int) -> Array:
        """Upper bounds (R, N) of the smoothed scores of images moved by up to each radius.

        For lower bounds give `-scores` and take the bounds' negative: the same order statistics
        counted from below bound the median from below.

        Args:
            scores: Scores (N, draws) of noisy copies.
            images: All images of whose bounds it is said that they hold at once.

        Returns:
            For each radius of `at` a bound for each image; infinite where there is none.
        """
        ordered, error = np.sort(scores.astype(np.float64), axis=1), self.error(images)
        found = np.full((len(self.at), len(scores)), np.inf)
        for row, radius in enumerate(self.at):
            rank = rank_above(self.draws, radius / self.sigma, error)
            if rank is not None:
                found[row] = ordered[:, rank - 1]
        return found


def rank_above(draws: int, shift: float, error: float) -> int | None:
    """The smallest order statistic that lies above a percentile, but for a small probability.

    A k-th smallest of n draws lies below the percentile p only if k of them do, with a probability
    of at most P(Binomial(n, p) >= k).

    Args:
        draws: Number n of independent draws.
        shift: The percentile is p = Phi(shift).
        error: Probability that the statistic lies below it, at most.

    Returns:
        The rank k, from 1 to n; None where even the largest draw will not do.
    """
    from scipy.stats import binom, norm

    ranks = np.arange(1, draws + 1)
    enough = binom.sf(ranks - 1, draws, norm.cdf(shift)) <= error
    return int(ranks[enough][0]) if enough.any() else None

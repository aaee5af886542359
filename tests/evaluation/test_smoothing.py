"""Order statistics bound the percentiles they are meant to, and so every perturbed median."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atd.evaluation.smoothing import Smoothing, rank_above

PHI = NormalDist()


def tail(draws: int, share: float, rank: int) -> float:
    """P(Binomial >= rank), summed term by term in whole numbers as far as that goes."""
    return math.fsum(
        math.comb(draws, k) * share**k * (1 - share) ** (draws - k) for k in range(rank, draws + 1)
    )


@given(
    st.integers(1, 120),
    st.floats(0, 3),
    st.floats(1e-6, 0.4),
)
def test_the_rank_is_the_smallest_that_is_safe(draws, shift, error):
    share, rank = PHI.cdf(shift), rank_above(draws, shift, error)
    if rank is None:
        assert tail(draws, share, draws) > error * (1 - 1e-9)
    else:
        assert tail(draws, share, rank) <= error * (1 + 1e-9)
        assert rank == 1 or tail(draws, share, rank - 1) > error * (1 - 1e-9)


def test_known_ranks_of_a_thousand_draws():
    """At a radius of one and two sigma, with one failure in a thousand."""
    assert [rank_above(1000, shift, 1e-3) for shift in (0.0, 1.0, 2.0, 2.5)] == [
        550,
        877,
        991,
        None,
    ]


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.3])
def test_bounds_hold_as_often_as_stated(radius):
    """Of draws of a known distribution: the percentile is exceeded but for the stated share."""
    smoothing = Smoothing(sigma=0.25, draws=200, radii=(radius or 0.1,), confidence=0.8)
    runs = 6_000
    scores = np.random.default_rng(0).standard_normal((runs, 200)) ** 3
    # One image: with two radii each bound may fail in a tenth of the runs.
    row = smoothing.at.index(radius)
    bounds = smoothing.upper_bounds(scores, images=1)[row]
    failed = float((bounds < (radius / 0.25) ** 3).mean())
    error = smoothing.error(1)
    assert error == pytest.approx(0.1)
    assert failed <= error + 4 * math.sqrt(error * (1 - error) / runs)
    # The next lower order statistic would fail too often: nothing is given away.
    tighter = np.sort(scores, axis=1)[:, rank_above(200, radius / 0.25, error) - 2]
    assert float((tighter < (radius / 0.25) ** 3).mean()) > error


def test_bounds_rise_with_the_radius_until_there_is_none():
    smoothing = Smoothing(sigma=0.25, draws=300, radii=(0.7, 0.1, 0.4), confidence=0.99)
    assert smoothing.at == (0.0, 0.1, 0.4, 0.7)
    scores = np.random.default_rng(1).standard_normal((7, 300)).astype(np.float32)
    bounds = smoothing.upper_bounds(scores, images=7)
    assert (np.diff(bounds[:3], axis=0) > 0).all()
    assert np.isinf(bounds[3]).all()
    assert (bounds[0] > np.median(scores, axis=1)).all()


def test_more_images_and_radii_share_the_same_error():
    few, many = Smoothing(radii=(0.1,)), Smoothing(radii=(0.1, 0.2, 0.3))
    assert few.error(50) == pytest.approx(0.001 / 100)
    assert many.error(50) == pytest.approx(0.001 / 200)

"""What a sample promises of scores to come: held against simulation and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from atd.errors import UserError
from atd.order_statistics import PValues, images_for, limit_below, share_interval


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (1, 1), (93, 100), (499, 500)])
def test_the_interval_is_clopper_and_pearsons(hits, count):
    expected = binomtest(hits, count).proportion_ci(0.95, method="exact")
    assert share_interval(hits, count) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("levels", [None, 7])
def test_intervals_and_chances_hold_as_often_as_they_say(levels):
    """Uniform scores, of which a share t lies below t; or few levels, so that most scores tie."""
    generator, share = np.random.default_rng(0), 0.9
    below, within, quantile = [], [], []
    for _ in range(400):
        scores = generator.random(60)
        scores = scores if levels is None else np.ceil(scores * levels) / levels
        limit = limit_below(scores, share, "test")
        below.append(limit.value)  # the true share at it, for either distribution
        low, high = limit.interval
        within.append(low <= limit.value <= high)
        low, high = (bound if bound is not None else edge for bound, edge in zip(
            limit.bounds, (-1.0, 2.0), strict=True))  # fmt: skip
        truth = share if levels is None else np.ceil(share * levels) / levels
        quantile.append(low <= truth <= high)
    assert np.mean(below) >= share - 0.005
    assert np.mean(within) >= 0.93
    assert np.mean(quantile) >= 0.93
    if levels is None:
        assert np.mean(below) == pytest.approx(55 / 61, abs=0.006)  # rank 55 of 60


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.5, 0.8, 0.9, 0.95, 0.975]),
    st.integers(-6, 6),
)
def test_a_p_value_is_small_just_where_the_score_is_flagged(sample, share, score):
    p_value = PValues(sample)(score)
    assert p_value == (1 + sum(other >= score for other in sample)) / (1 + len(sample))
    if len(sample) >= images_for(share):
        limit = limit_below(sample, share, "test")
        assert (score > limit.value) == (p_value <= 1 - share + 1e-12)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_just_enough_images_are_enough(share):
    enough = images_for(share)
    assert limit_below(np.arange(enough), share, "test").value == enough - 1
    with pytest.raises(UserError, match=f"at least {enough:,} images, and there are"):
        limit_below(np.arange(enough - 1), share, "--accept")


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_no_threshold_promises_everything_or_nothing(share):
    with pytest.raises(UserError, match="give a share"):
        limit_below(np.arange(1000), share, "--accept")


@pytest.mark.parametrize(("count", "share"), [(19, 0.95), (200, 0.95), (500, 0.99)])
def test_the_count_for_half_makes_the_interval_half_as_wide(count, share):
    limit = limit_below(np.random.default_rng(0).random(count), share, "test")
    more = limit_below(np.random.default_rng(1).random(limit.count_for_half), share, "test")
    width, narrower = (high - low for low, high in (limit.interval, more.interval))
    assert 0.4 * width < narrower <= width / 2

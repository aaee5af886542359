"""Drift, counted at constant memory: the same as scipy finds with all scores at hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstwo

from atd.drift import Tally

SCORES = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-3, 3, width=32)), min_size=1, max_size=40
)


def drift_of(sample, scores, threshold=0.5):
    tally = Tally(sample, threshold)
    for score in scores:
        tally.add(score)
    return tally.drift()


def expected_p_value(sample, scores):
    """scipy's own; of one score each it makes a test of no observation, which is NaN."""
    if len(sample) * len(scores) <= 1:
        return 1.0 if sample == scores else kstwo.sf(1.0, 1)
    return ks_2samp(sample, scores, method="asymp").pvalue


@given(SCORES, SCORES)
def test_the_test_is_kolmogorovs_and_smirnovs(sample, scores):
    found = drift_of(sample, scores)
    assert found.p_value == pytest.approx(expected_p_value(sample, scores), abs=1e-9)
    assert found.flagged == sum(score > 0.5 for score in scores)
    assert found.expected == pytest.approx(np.mean(np.array(sample) > 0.5))


def test_scores_like_the_sample_pass_and_others_are_noticed():
    generator = np.random.default_rng(0)
    sample = generator.normal(size=400)
    alike = drift_of(sample, generator.normal(size=2000))
    moved = drift_of(sample, generator.normal(0.4, size=2000))
    assert not alike.differs
    assert moved.differs
    assert "scores like the 400" in str(alike)
    assert "UNLIKE the 400" in str(moved)
    assert "% expected" in str(moved)


def test_memory_does_not_grow_with_the_stream_and_can_be_cleared():
    tally = Tally([0.0, 1.0], None)
    for _ in range(1000):
        tally.add(0.5)
    assert len(tally._counts) == 5
    assert tally.drift().flagged is None
    assert "flagged" not in str(tally.drift())
    tally.clear()
    assert tally.drift() is None

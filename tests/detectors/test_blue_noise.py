import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atd.detectors.blue_noise import blue_noise, radius_for

sides = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))


def distances(points, others):
    return np.sqrt(((points[:, None] - others[None]) ** 2.0).sum(2))


@settings(max_examples=40, deadline=None)
@given(shape=sides, radius=st.floats(1, 30), seed=st.integers(0, 2**63 - 1))
def test_points_lie_apart_and_leave_little_room(shape, radius, seed):
    points = blue_noise(shape, radius, seed)
    assert ((points >= 0) & (points < shape)).all()
    apart = distances(points, points)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= radius
    everywhere = np.array(list(itertools.product(*map(range, shape))))
    empty = distances(everywhere, points).min(1) >= radius
    assert empty.mean() <= 0.05


def test_a_seed_is_a_key():
    one, again, other = (blue_noise((60, 8, 8), 5, seed) for seed in (42, 42, 43))
    assert np.array_equal(one, again)
    shared = {*map(tuple, one)} & {*map(tuple, other)}
    assert len(shared) < 0.1 * len(one)


def test_as_many_points_as_the_released_code():
    assert len(blue_noise((200, 32, 32), 8, 42)) == pytest.approx(296, rel=0.05)


@pytest.mark.parametrize("shape", [(200, 32, 32), (900, 16, 16), (300, 8, 8)])
@pytest.mark.parametrize("wanted", [64, 512])
def test_the_radius_for_so_many_points(shape, wanted):
    assert len(blue_noise(shape, radius_for(shape, wanted), 0)) == pytest.approx(wanted, rel=0.35)

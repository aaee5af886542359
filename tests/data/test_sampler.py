"""Sample order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atd.data.sampler import generator_for, positions_to_indices


@given(st.integers(1, 50), st.integers(0, 2**31), st.integers(0, 500), st.integers(0, 120))
def test_any_window_is_cut_from_one_sequence(size, seed, start, count):
    whole = positions_to_indices(size, seed, 0, start + count)
    assert torch.equal(positions_to_indices(size, seed, start, count), whole[start:])


@given(st.integers(1, 50), st.integers(0, 1000), st.integers(0, 20))
def test_each_epoch_visits_every_sample_once(size, seed, epoch):
    indices = positions_to_indices(size, seed, epoch * size, size)
    assert torch.equal(indices.sort().values, torch.arange(size))


def test_epochs_and_seeds_differ():
    first, second = positions_to_indices(100, 0, 0, 200).split(100)
    assert not torch.equal(first, second)
    assert not torch.equal(first, positions_to_indices(100, 1, 0, 100))


def test_global_random_state_neither_matters_nor_changes():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    expected = positions_to_indices(7000, 3, 10, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(positions_to_indices(7000, 3, 10, 5), expected)


@pytest.mark.parametrize("arguments", [(0, 0, 0, 1), (5, 0, -1, 1), (5, 0, 0, -1)])
def test_impossible_positions_are_refused(arguments):
    with pytest.raises(ValueError, match="impossible positions"):
        positions_to_indices(*arguments)


def test_generators_depend_on_the_whole_key():
    draws = {
        float(torch.rand((), generator=generator_for(*key)))
        for key in [("a", 1), ("a", 2), ("b", 1), ("a", 1, 0), ("a1",)]
    }
    assert len(draws) == 5
    again = torch.rand((), generator=generator_for("a", 1))
    assert float(again) in draws

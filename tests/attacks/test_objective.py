"""Which of two outcomes is kept, and that evaluation leaves no gradient."""

import torch

from atd.attacks import Attacked
from atd.attacks.objective import value_and_gradient


def outcome(first_pixel: float, values: list[float]) -> Attacked:
    return Attacked(torch.full((len(values), 1, 2, 2), first_pixel), torch.tensor(values))


def test_only_strictly_larger_values_win_and_nan_never() -> None:
    nan, inf = float("nan"), float("inf")
    mine = outcome(0.0, [1.0, 1.0, 1.0, 1.0, nan, nan, -inf])
    other = outcome(1.0, [2.0, 1.0, 0.0, nan, 0.0, nan, 0.0])
    best = mine.better(other)
    assert best.images[:, 0, 0, 0].tolist() == [1, 0, 0, 0, 1, 0, 1]
    expected = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0, nan, 0.0])
    torch.testing.assert_close(best.values, expected, equal_nan=True)


def test_features_are_compared_per_sample() -> None:
    mine = Attacked(torch.zeros(2, 3), torch.tensor([0.0, 1.0]))
    other = Attacked(torch.ones(2, 3), torch.tensor([1.0, 0.0]))
    assert mine.better(other).images.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_each_value_has_the_gradient_of_its_own_sample() -> None:
    images = torch.tensor([[1.0], [2.0], [3.0]])
    with torch.no_grad():
        values, gradient = value_and_gradient(lambda x: x.square().sum(1), images)
    assert values.tolist() == [1, 4, 9]
    assert gradient.tolist() == [[2], [4], [6]]
    assert not images.requires_grad
    assert not values.requires_grad


def test_evaluation_needs_no_gradient() -> None:
    weight = torch.ones(3, requires_grad=True)
    values = Attacked.of(lambda x: (x * weight).sum(1), torch.ones(2, 3)).values
    assert not values.requires_grad

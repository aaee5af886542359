"""Objectives made of others: means over noise, gradients of stand-ins, guarded gradients."""

import pytest
import torch
from torch import Tensor

from atd.attacks import expectation, fgsm, finite_gradient, pgd, straight_through
from atd.attacks.objective import value_and_gradient

WEIGHTS = torch.randn(40, generator=torch.Generator().manual_seed(0))


def test_the_expectation_is_the_mean_of_that_many_evaluations() -> None:
    answers = iter([1.0, 2.0, 6.0])
    objective = expectation(lambda x: next(answers) * x.sum(1), draws=3)
    values, gradient = value_and_gradient(objective, torch.ones(2, 4))
    assert values.tolist() == [12, 12]
    assert gradient.tolist() == [[3] * 4] * 2


def test_the_expectation_finds_the_direction_that_noise_hides() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.full((8, 40), 0.5)

    def noisy(x: Tensor) -> Tensor:
        noise = 5 * torch.randn(x.shape, generator=generator)
        return (x * (WEIGHTS + noise)).sum(1)

    def gain(objective: object) -> float:
        attacked = pgd(objective, images, epsilon=0.1, steps=1, step_size=0.1, keep="last")
        return float(((attacked.images - images) @ WEIGHTS).mean())

    assert gain(expectation(noisy, 100)) > 2 * gain(noisy)


def test_the_expectation_needs_a_draw() -> None:
    with pytest.raises(ValueError, match="draws"):
        expectation(noisy_never_called, 0)


def noisy_never_called(images: Tensor) -> Tensor:
    raise AssertionError


def test_attacks_pass_through_rounding() -> None:
    def rounded(x: Tensor) -> Tensor:
        return ((x * 10).round() / 10) @ WEIGHTS

    images = torch.full((2, 40), 0.52)
    stopped = pgd(rounded, images, epsilon=0.1, steps=5)
    assert torch.equal(stopped.values, rounded(images))
    objective = straight_through(rounded, lambda x: x @ WEIGHTS)
    passed = pgd(objective, images, epsilon=0.1, steps=5)
    assert torch.equal(passed.values, rounded(passed.images))
    torch.testing.assert_close(passed.values, rounded(images + 0.1 * WEIGHTS.sign()))


def test_the_forward_part_may_have_no_gradient_at_all() -> None:
    objective = straight_through(
        lambda x: torch.from_numpy(x.numpy().max(1)), lambda x: 3 * x[:, 0]
    )
    values, gradient = value_and_gradient(objective, torch.tensor([[0.25, 0.75]]))
    assert values.item() == 0.75
    assert gradient.tolist() == [[3, 0]]


def test_the_guard_changes_nothing_but_gradients_that_are_not_finite() -> None:
    x = torch.tensor([[0.0, 0.25, 1.0]], requires_grad=True)
    guarded = finite_gradient(x)
    assert torch.equal(guarded, x)
    (gradient,) = torch.autograd.grad(guarded.sqrt().sum(), x)
    assert gradient.tolist() == [[0.0, 1.0, 0.5]]


def test_the_guard_lets_an_attack_go_on() -> None:
    """One square root at zero makes the gradient of every element NaN, and no step is taken."""
    images = torch.full((1, 40), 0.5)

    def spread(x: Tensor, guard: bool) -> Tensor:
        flat = x - x.mean(1, keepdim=True)
        square = (finite_gradient(flat) if guard else flat).square().sum(1)
        return (finite_gradient(square) if guard else square).sqrt() + x @ WEIGHTS

    assert torch.equal(fgsm(lambda x: spread(x, False), images, epsilon=0.1).images, images)
    moved = fgsm(lambda x: spread(x, True), images, epsilon=0.1).images
    torch.testing.assert_close(moved, images + 0.1 * WEIGHTS.sign())

"""Whatever is asked of a ball lies in it and in range."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from atd.attacks import Ball

norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def some_ball(epsilon: float, norm: str, seed: int) -> Ball:
    # Rounded, so that many pixels lie exactly on the bounds.
    return Ball(uniform(4, 3, 5, 5, seed=seed).round(decimals=1), epsilon, norm)


def assert_inside(ball: Ball, points: Tensor) -> None:
    assert (ball.distance(points) <= ball.epsilon * (1 + 1e-5) + 1e-6).all()
    assert points.min() >= 0
    assert points.max() <= 1


@given(
    epsilon=st.floats(0, 3),
    norm=st.sampled_from(["linf", "l2"]),
    seed=st.integers(0, 1000),
    reach=st.floats(0, 100),
)
def test_projection_is_in_the_ball_and_idempotent(
    epsilon: float, norm: str, seed: int, reach: float
) -> None:
    ball = some_ball(epsilon, norm, seed)
    moved = ball.images + reach * (2 * uniform(4, 3, 5, 5, seed=seed + 1) - 1)
    point = ball.project(moved)
    assert_inside(ball, point)
    torch.testing.assert_close(ball.project(point), point)


@given(epsilon=st.floats(0, 3), norm=st.sampled_from(["linf", "l2"]), seed=st.integers(0, 1000))
def test_starts_are_in_the_ball(epsilon: float, norm: str, seed: int) -> None:
    ball = some_ball(epsilon, norm, seed)
    noise = 2 * uniform(4, 3, 5, 5, seed=seed + 1) - 1
    assert_inside(ball, ball.start(noise))
    assert_inside(ball, ball.start(noise.sign()))
    torch.testing.assert_close(ball.start(None), ball.images)


@norms
def test_the_largest_noise_reaches_the_surface(norm: str) -> None:
    ball = Ball(torch.full((2, 1, 3, 3), 0.5), 0.1, norm)
    distance = ball.distance(ball.start(torch.ones(2, 1, 3, 3)))
    torch.testing.assert_close(distance, torch.full((2,), 0.1))


@norms
def test_points_inside_stay_where_they_are(norm: str) -> None:
    ball = Ball(torch.full((2, 1, 3, 3), 0.5), 0.3, norm)
    near = ball.images + 0.05
    torch.testing.assert_close(ball.project(near), near)


def test_l2_projection_shortens_the_difference() -> None:
    images = torch.full((1, 2), 0.5)
    moved = torch.tensor([[0.5 + 3.0, 0.5 + 4.0]])
    expected = torch.tensor([[0.5 + 0.06, 0.5 + 0.08]])
    torch.testing.assert_close(Ball(images, 0.1, "l2").project(moved), expected)


def test_distances_are_those_of_the_norm() -> None:
    images, moved = torch.zeros(1, 2), torch.tensor([[3.0, -4.0]])
    assert Ball(images, 1, "linf").distance(moved).item() == 4
    assert Ball(images, 1, "l2").distance(moved).item() == 5


@norms
def test_without_bounds_nothing_is_clamped(norm: str) -> None:
    ball = Ball(torch.zeros(1, 4), 5.0, norm, bounds=None)
    moved = torch.full((1, 4), -2.0)
    torch.testing.assert_close(ball.project(moved), moved)


@norms
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1.0, 1e30])
def test_no_other_unit_step_ascends_more(norm: str, size: float) -> None:
    ball = Ball(torch.zeros(5, 20), 1.0, norm)
    gradient = size * (2 * uniform(5, 20, seed=0) - 1)
    step = ball.ascent(gradient)
    torch.testing.assert_close(ball.distance(ball.images + step), torch.ones(5))
    # Hoelder: the gain is at most the dual norm of the gradient, and the best step attains it.
    dual = gradient.double().norm(p=1 if norm == "linf" else 2, dim=1)
    gain = (gradient.double() * step.double()).sum(1)
    torch.testing.assert_close(gain / dual, torch.ones(5).double(), rtol=1e-5, atol=0)


@norms
def test_useless_gradients_move_nothing(norm: str) -> None:
    ball = Ball(torch.zeros(2, 3), 1.0, norm)
    nan, inf = float("nan"), float("inf")
    step = ball.ascent(torch.tensor([[0.0, 0.0, 0.0], [nan, 2.0, inf]]))
    assert step[0].eq(0).all()
    assert step.isfinite().all()
    assert step[1, 0] == 0
    assert step[1, 1] == 1

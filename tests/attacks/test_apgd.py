"""Step sizes are halved when and where the paper says; the best iterate is what is returned."""

from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from atd.attacks import apgd, straight_through
from atd.attacks.apgd import StepSizes, checkpoints

norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 1), nn.Flatten(0)
    ).requires_grad_(False)


def some_images(count: int = 5, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_checkpoints_of_a_hundred_steps_are_the_published_ones() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@given(steps=st.integers(1, 1000))
def test_checkpoints_follow_the_recursion(steps: int) -> None:
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    assert checkpoints(steps) == sorted({ceil(share * steps) for share in p[1:-1]})


@given(increases=st.integers(1, 22))
def test_a_step_size_is_halved_where_fewer_than_three_quarters_increase(increases: int) -> None:
    sizes = StepSizes(100, torch.zeros(1), initial=8.0)
    for step in range(1, 23):
        reached = torch.tensor([float(min(step, increases))])
        halved = sizes.update(step, reached, best=reached)
        assert step == 22 or not halved.any()
    assert bool(halved) == (increases < 0.75 * 22)
    assert sizes.sizes.item() == (4.0 if halved else 8.0)


def test_a_step_size_is_halved_once_when_the_best_does_not_grow() -> None:
    """Condition 2 holds only where the last checkpoint did not halve."""
    sizes = StepSizes(100, torch.zeros(2), initial=8.0)
    for step in range(1, 23):
        halved = sizes.update(step, torch.tensor([1.0 * step, -1.0 * step]), torch.tensor([22, 0]))
    assert halved.tolist() == [False, True]
    for step in range(23, 42):  # 18 of 19 steps increase, from far below the best
        values = torch.tensor([-100.0 + step, -100.0 + step])
        halved = sizes.update(step, values, torch.tensor([22, 0]))
    assert halved.tolist() == [True, False]
    assert sizes.sizes.tolist() == [4, 4]


def test_nan_values_count_as_no_increase() -> None:
    sizes = StepSizes(10, torch.zeros(1), initial=1.0)
    for step in range(1, 4):
        halved = sizes.update(step, torch.tensor([float("nan")]), torch.zeros(1))
    assert halved.all()


def test_halving_returns_to_the_best_point_with_momentum() -> None:
    """A slope that never pays: the best point stays the start."""
    visited = []

    def objective(images: Tensor) -> Tensor:
        visited.append(images.item() - 0.5)
        worthless = straight_through(lambda x: torch.zeros(len(x)), lambda x: x.sum(1))
        return worthless(images)

    result = apgd(objective, torch.full((1, 1), 0.5), epsilon=0.1, steps=100)
    assert result.images.item() == 0.5
    assert len(visited) == 101
    assert visited[1:23] == pytest.approx([0.1] * 22, abs=1e-6)
    # x0 + 0.75 * (step size, at most the radius) + 0.25 * (x0 - previous)
    assert visited[23] == pytest.approx(0.75 * 0.1 - 0.25 * 0.1, abs=1e-6)
    assert visited[24:42] == pytest.approx([0.1] * 18, abs=1e-6)
    assert visited[42] == pytest.approx(0.75 * 0.05 - 0.25 * 0.1, abs=1e-6)


def plain_apgd(network: nn.Module, image: Tensor, epsilon: float, steps: int) -> list[Tensor]:
    """Algorithm 1 for one image, restated with lists: all points x(0), x(1), ... evaluated."""

    def f(x: Tensor) -> float:
        return network(x.double()).item()

    def step(x: Tensor, size: float) -> Tensor:
        x = x.clone().requires_grad_(True)
        network(x.double()).sum().backward()
        return project(x.detach() + size * x.grad.sign())

    def project(x: Tensor) -> Tensor:
        return x.clamp(image - epsilon, image + epsilon).clamp(0, 1)

    points, evaluated, eta, best = [image], [image], 2 * epsilon, image
    at_checkpoint = [(0, f(image), False)]
    increases = 0
    for k in range(1, steps + 1):
        moved = step(points[-1], eta)
        if k > 1:
            moved = points[-1] + 0.75 * (moved - points[-1]) + 0.25 * (points[-1] - points[-2])
        moved = project(moved)
        evaluated.append(moved)
        increases += f(moved) > f(points[-1])
        best = moved if f(moved) > f(best) else best
        if k in checkpoints(steps):
            since, best_then, halved_then = at_checkpoint[-1]
            halve = increases < 0.75 * (k - since) or (not halved_then and best_then == f(best))
            eta, moved = (eta / 2, best) if halve else (eta, moved)
            at_checkpoint.append((k, f(best), halve))
            increases = 0
        points.append(moved)
    return evaluated


def test_agrees_with_a_plain_restatement_of_the_algorithm() -> None:
    # In double precision, so that rounding turns no sign of a gradient.
    network, images = small_network(5).double(), some_images(6)
    seen = []

    def objective(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return network(x.double())

    # A large ball, in which the network is far from linear.
    apgd(objective, images, epsilon=0.5, steps=60)
    for row in range(len(images)):
        expected = plain_apgd(network, images[row : row + 1], 0.5, 60)
        torch.testing.assert_close(torch.stack(seen)[:, row], torch.cat(expected))


@norms
def test_returns_the_best_of_all_points_it_visits(norm: str) -> None:
    network, images = small_network(), some_images()
    seen = []

    def objective(x: Tensor) -> Tensor:
        values = network(x)
        seen.append(values.detach())
        return values

    attacked = apgd(objective, images, epsilon=0.3, steps=9, norm=norm)
    torch.testing.assert_close(attacked.values, torch.stack(seen).amax(0))
    torch.testing.assert_close(network(attacked.images), attacked.values)
    assert (attacked.values > network(images)).all()


@given(
    epsilon=st.floats(0, 1),
    steps=st.integers(1, 12),
    seed=st.integers(0, 1000),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.booleans(),
)
def test_stays_in_the_ball_and_in_range(
    epsilon: float, steps: int, seed: int, norm: str, start: bool
) -> None:
    images = some_images(seed=seed).round(decimals=1)
    noise = 2 * some_images(seed=seed + 1) - 1 if start else None
    found = apgd(
        small_network(), images, epsilon=epsilon, steps=steps, noise=noise, norm=norm
    ).images
    order = float("inf") if norm == "linf" else 2
    assert (found - images).flatten(1).norm(p=order, dim=1).max() <= epsilon * (1 + 1e-5) + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.dtype == torch.float32


@norms
def test_a_sample_does_not_depend_on_its_batch_mates(norm: str) -> None:
    network, images = small_network(), some_images(8)
    noise = 2 * some_images(8, seed=3) - 1
    together = apgd(network, images, epsilon=0.1, steps=12, noise=noise, norm=norm)
    alone = apgd(network, images[3:4], epsilon=0.1, steps=12, noise=noise[3:4], norm=norm)
    torch.testing.assert_close(together.images[3:4], alone.images)
    torch.testing.assert_close(together.values[3:4], alone.values)


@norms
def test_solves_a_linear_objective(norm: str) -> None:
    weights = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.full((2, 3, 6, 6), 0.5)
    attacked = apgd(lambda x: (x * weights).sum((1, 2, 3)), images, epsilon=0.1, steps=5, norm=norm)
    gain = 0.1 * weights.norm(p=1 if norm == "linf" else 2)
    torch.testing.assert_close(attacked.values, 0.5 * weights.sum() + gain.expand(2))


def test_features_need_no_bounds_and_double_values_are_no_trouble() -> None:
    features = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    attacked = apgd(lambda x: x.double().sum(1), features, epsilon=0.5, steps=4, bounds=None)
    torch.testing.assert_close(attacked.images, features + 0.5)

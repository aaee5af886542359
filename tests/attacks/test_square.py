"""Square attack: its schedule, its ball, and that it looks at values only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from atd.attacks import Attacked, square
from atd.attacks.square import share_at, window_side


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def brightness(images: Tensor) -> Tensor:
    """A score with no gradient at all."""
    weights = 2 * uniform(*images.shape[1:], seed=9) - 1
    return (images.detach() * weights).sum((1, 2, 3))


def attack(images: Tensor, queries: int, seed: int = 0, epsilon: float = 0.1) -> Attacked:
    count, channels, _, width = images.shape
    draws = uniform(count, queries, 2 + channels, seed=seed)
    stripes = 2 * uniform(count, channels, width, seed=seed + 1) - 1
    return square(brightness, images, epsilon=epsilon, draws=draws, stripes=stripes)


@pytest.mark.parametrize(
    ("query", "halvings"),
    [(0, 0), (10, 0), (11, 1), (50, 1), (51, 2), (201, 3), (501, 4), (1001, 5), (2001, 6)]
    + [(4001, 7), (6001, 8), (8000, 8), (8001, 9), (9999, 9)],
)
def test_the_schedule_is_the_published_one(query: int, halvings: int) -> None:
    assert share_at(query, 10000, 0.8) == 0.8 / 2**halvings


def test_the_schedule_is_rescaled() -> None:
    assert [share_at(q, 1000, 0.8) for q in (1, 2, 5, 6, 20, 21)] == [0.8, 0.4, 0.4, 0.2, 0.2, 0.1]


@pytest.mark.parametrize(
    ("share", "height", "width", "side"),
    [(0.8, 32, 32, 29), (0.05, 32, 32, 7), (1e-6, 32, 32, 1), (0.8, 8, 50, 8), (1.0, 5, 5, 5)],
)
def test_a_window_covers_its_share(share: float, height: int, width: int, side: int) -> None:
    assert window_side(share, height, width) == side


@given(epsilon=st.floats(0, 1), queries=st.integers(0, 20), seed=st.integers(0, 1000))
def test_stays_in_the_ball_and_in_range(epsilon: float, queries: int, seed: int) -> None:
    images = uniform(3, 2, 5, 7, seed=seed).round(decimals=1)
    found = attack(images, queries, seed, epsilon).images
    assert (found - images).abs().max() <= epsilon + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def test_starts_from_vertical_stripes() -> None:
    images = torch.full((1, 2, 4, 3), 0.5)
    stripes = torch.tensor([[[0.3, -0.2, 1.0], [-1.0, 0.1, 0.5]]])
    start = square(brightness, images, epsilon=0.1, draws=torch.zeros(1, 0, 4), stripes=stripes)
    torch.testing.assert_close(
        start.images - images, 0.1 * stripes.sign()[:, :, None].expand(images.shape)
    )


def test_a_query_sets_one_square_in_each_channel() -> None:
    images = torch.full((1, 2, 6, 6), 0.5)
    draws = torch.tensor([[[0.999, 0.0, 0.7, 0.3]]])  # last row, first column, + and -
    target = torch.tensor([1.0, -1.0])[:, None, None]
    found = square(
        lambda x: (x * target).sum((1, 2, 3)),
        images,
        epsilon=0.1,
        draws=draws,
        stripes=torch.tensor([-1.0, 1.0])[None, :, None].expand(1, 2, 6),
        p_init=4 / 36,
    ).images
    expected = torch.full((1, 2, 6, 6), 0.4)
    expected[0, 1] = 0.6
    expected[0, 0, 4:, :2] = 0.6
    expected[0, 1, 4:, :2] = 0.4
    torch.testing.assert_close(found, expected)


@given(seed=st.integers(0, 1000))
def test_no_query_loses_ground(seed: int) -> None:
    images, values = uniform(3, 1, 6, 6, seed=seed), []

    def recorded(x: Tensor) -> Tensor:
        values.append(brightness(x))
        return values[-1]

    draws, stripes = uniform(3, 30, 3, seed=seed), 2 * uniform(3, 1, 6, seed=seed + 1) - 1
    found = square(recorded, images, epsilon=0.1, draws=draws, stripes=stripes)
    assert len(values) == 31
    torch.testing.assert_close(found.values, torch.stack(values).amax(0))
    torch.testing.assert_close(found.values, brightness(found.images))


def test_solves_a_linear_objective_without_a_gradient() -> None:
    images = torch.full((3, 2, 6, 6), 0.5)
    with torch.no_grad():
        found = attack(images, 3000)
    weights = 2 * uniform(2, 6, 6, seed=9) - 1
    optimum = 0.5 * weights.sum() + 0.1 * weights.abs().sum()
    start = attack(images, 0).values
    assert (found.values - start > 0.95 * (optimum - start)).all()


def test_a_sample_does_not_depend_on_its_batch_mates() -> None:
    images, draws = uniform(6, 3, 8, 8, seed=1), uniform(6, 50, 5, seed=2)
    stripes = 2 * uniform(6, 3, 8, seed=3) - 1
    together = square(brightness, images, epsilon=0.1, draws=draws, stripes=stripes)
    alone = square(brightness, images[4:5], epsilon=0.1, draws=draws[4:5], stripes=stripes[4:5])
    assert torch.equal(together.images[4:5], alone.images)


def test_nan_is_never_better() -> None:
    images = torch.full((2, 1, 4, 4), 0.5)
    calls = []

    def objective(x: Tensor) -> Tensor:
        calls.append(x)
        return torch.full((2,), float("nan") if len(calls) > 1 else 1.0)

    stripes = torch.ones(2, 1, 4)
    found = square(objective, images, epsilon=0.1, draws=torch.rand(2, 5, 3), stripes=stripes)
    assert found.values.tolist() == [1, 1]
    torch.testing.assert_close(found.images, images + 0.1)


def test_other_norms_are_refused() -> None:
    images = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="linf"):
        square(
            brightness,
            images,
            epsilon=0.1,
            draws=torch.zeros(1, 1, 3),
            stripes=torch.zeros(1, 1, 4),
            norm="l2",
        )

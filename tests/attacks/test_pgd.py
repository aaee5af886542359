"""PGD stays in the ball and in range, never loses ground, and treats each sample alone."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from atd.attacks import default_step_size, fgsm, pgd


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 1), nn.Flatten(0)
    ).requires_grad_(False)


def some_images(count: int = 5, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def some_noise(images: Tensor, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(images.shape, generator=generator) - 1


@given(
    epsilon=st.floats(0, 1),
    steps=st.integers(1, 6),
    seed=st.integers(0, 1000),
    keep=st.sampled_from(["best", "last"]),
    start=st.booleans(),
)
def test_stays_in_the_ball_and_in_range(
    epsilon: float, steps: int, seed: int, keep: str, start: bool
) -> None:
    images = some_images(seed=seed).round(decimals=1)
    noise = some_noise(images, seed) if start else None
    attacked = pgd(
        small_network(), images, epsilon=epsilon, steps=steps, noise=noise, keep=keep
    ).images
    assert (attacked - images).abs().max() <= epsilon + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert attacked.dtype == torch.float32


@given(steps=st.integers(1, 5), seed=st.integers(0, 1000))
def test_is_never_weaker_than_its_start_nor_than_fewer_steps(steps: int, seed: int) -> None:
    network, images = small_network(seed), some_images(seed=seed)
    noise = some_noise(images, seed)
    start = network((images + 0.1 * noise).clamp(0, 1))
    attacked = pgd(network, images, epsilon=0.1, steps=steps, step_size=0.03, noise=noise)
    more = pgd(network, images, epsilon=0.1, steps=steps + 1, step_size=0.03, noise=noise)
    assert (attacked.values >= start).all()
    assert (more.values >= attacked.values).all()


def test_values_belong_to_the_images_returned() -> None:
    network, images = small_network(), some_images()
    attacked = pgd(network, images, epsilon=0.1, steps=7, noise=some_noise(images))
    torch.testing.assert_close(network(attacked.images), attacked.values)


def test_solves_a_linear_objective_exactly() -> None:
    weights = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.full((2, 3, 6, 6), 0.5)
    best = (images + 0.1 * weights.sign() - 0.0) * weights
    for attacked in (
        pgd(lambda x: (x * weights).sum((1, 2, 3)), images, epsilon=0.1, steps=10),
        fgsm(lambda x: (x * weights).sum((1, 2, 3)), images, epsilon=0.1),
    ):
        torch.testing.assert_close(attacked.values, best.sum((1, 2, 3)))


def test_agrees_with_a_plain_loop() -> None:
    """An independent restatement of eq. 5: sign step, then projection."""
    network, images = small_network(3), some_images(4)
    noise = some_noise(images)
    x = (images + 0.05 * noise).clamp(0, 1)
    for _ in range(4):
        x = x.detach().requires_grad_(True)
        network(x).sum().backward()
        x = x.detach() + 0.02 * x.grad.sign()
        x = images + (x - images).clamp(-0.05, 0.05)
        x = x.clamp(0, 1)
    attacked = pgd(network, images, epsilon=0.05, steps=4, step_size=0.02, noise=noise, keep="last")
    torch.testing.assert_close(attacked.images, x.detach())


def test_a_sample_does_not_depend_on_its_batch_mates() -> None:
    network, images = small_network(), some_images(8)
    noise = some_noise(images)
    together = pgd(network, images, epsilon=0.1, steps=5, noise=noise)
    alone = pgd(network, images[3:4], epsilon=0.1, steps=5, noise=noise[3:4])
    torch.testing.assert_close(together.images[3:4], alone.images)
    torch.testing.assert_close(together.values[3:4], alone.values)


def test_the_same_inputs_give_the_same_attack() -> None:
    network, images = small_network(), some_images()
    noise = some_noise(images)
    first = pgd(network, images, epsilon=0.1, steps=5, noise=noise)
    second = pgd(copy.deepcopy(network), images.clone(), epsilon=0.1, steps=5, noise=noise)
    assert torch.equal(first.images, second.images)


def test_leaves_images_and_parameters_alone() -> None:
    network, images = small_network().requires_grad_(True), some_images()
    before = images.clone()
    pgd(network, images, epsilon=0.1, steps=3)
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_works_inside_no_grad() -> None:
    with torch.no_grad():
        attacked = pgd(small_network(), some_images(), epsilon=0.1, steps=2)
    assert not attacked.images.requires_grad


def test_features_need_no_bounds() -> None:
    features = torch.randn(4, 10)
    attacked = pgd(lambda x: x.sum(1), features, epsilon=0.5, steps=4, bounds=None)
    torch.testing.assert_close(attacked.images, features + 0.5)


@pytest.mark.parametrize(("steps", "size"), [(100, 0.025), (10, 0.25), (2, 1.25), (1, 1.25)])
def test_step_size_is_the_published_one(steps: int, size: float) -> None:
    assert default_step_size(1.0, steps) == pytest.approx(size)

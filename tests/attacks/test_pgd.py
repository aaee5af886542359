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


def test_the_arithmetic_is_bit_for_bit_that_of_the_plain_sign_step() -> None:
    """Losses of a training run are stored, so not even rounding may change."""
    network, images = small_network(3), some_images(4)
    noise = some_noise(images)
    lower, upper = (images - 0.05).clamp_min(0), (images + 0.05).clamp_max(1)
    x = torch.minimum(torch.maximum(images + 0.05 * noise, lower), upper)
    iterates = [x]
    for _ in range(4):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(x).sum(), x)
        x = torch.minimum(torch.maximum(x.detach() + 0.02 * gradient.sign(), lower), upper)
        iterates.append(x)
    settings = {"epsilon": 0.05, "steps": 4, "step_size": 0.02, "noise": noise}
    assert torch.equal(pgd(network, images, keep="last", **settings).images, x)
    best = pgd(network, images, keep="best", **settings)
    values = torch.stack([network(iterate) for iterate in iterates])
    assert torch.equal(best.values, values.amax(0))
    assert torch.equal(best.images, torch.stack(iterates)[values.argmax(0), torch.arange(4)])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_solves_a_linear_objective_in_l2(momentum: float) -> None:
    weights = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.full((2, 3, 6, 6), 0.5)
    expected = images + 0.4 * weights / weights.norm()
    settings = {"epsilon": 0.4, "norm": "l2"}

    def objective(x: Tensor) -> Tensor:
        return (x * weights).sum((1, 2, 3))

    for attacked in (
        pgd(objective, images, steps=10, momentum=momentum, **settings),
        fgsm(objective, images, **settings),
    ):
        torch.testing.assert_close(attacked.images, expected)


@given(
    epsilon=st.floats(0, 3),
    steps=st.integers(1, 6),
    seed=st.integers(0, 1000),
    momentum=st.floats(0, 1),
)
def test_stays_in_the_l2_ball_and_in_range(
    epsilon: float, steps: int, seed: int, momentum: float
) -> None:
    images = some_images(seed=seed).round(decimals=1)
    found = pgd(
        small_network(), images, epsilon=epsilon, steps=steps, norm="l2", momentum=momentum
    ).images
    assert (found - images).flatten(1).norm(dim=1).max() <= epsilon * (1 + 1e-5) + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def test_momentum_sums_gradients_divided_by_their_mean_size() -> None:
    """The gradient of the second step is the larger one, but both count the same."""
    seen = []

    def objective(x: Tensor) -> Tensor:
        seen.append(x.detach())
        slope = torch.tensor([[1.0, 3.0], [-30.0, 10.0], [0.0, 0.0]][len(seen) - 1])
        return (x * slope).sum(1)

    features, size = torch.zeros(1, 2), 0.1
    pgd(
        objective,
        features,
        epsilon=9.0,
        steps=3,
        step_size=size,
        norm="l2",
        momentum=0.5,
        bounds=None,
        keep="last",
    )
    first, second = torch.tensor([[0.5, 1.5]]), torch.tensor([[-1.5, 0.5]])
    velocity = 0.5 * first + second
    torch.testing.assert_close(seen[1], size * first / first.norm())
    torch.testing.assert_close(seen[2] - seen[1], size * velocity / velocity.norm())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_element_without_a_finite_gradient_does_not_stop_the_others(
    norm: str, momentum: float
) -> None:
    """The square root has an infinite slope at 0, and 0 * inf is NaN."""
    images = torch.tensor([[0.0, 0.5], [0.2, 0.3]])
    attacked = pgd(
        lambda x: (x[:, 0] * 0).sqrt() + x[:, 1],
        images,
        epsilon=0.1,
        steps=4,
        norm=norm,
        momentum=momentum,
    )
    torch.testing.assert_close(attacked.images, images + torch.tensor([0.0, 0.1]))


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

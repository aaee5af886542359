"""Attacks compared on a small network trained to tell low from high digits."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from atd.attacks import Attacked, Objective, apgd, pgd, random_noise, square, transfer

EPSILON = {"linf": 0.08, "l2": 0.4}  # about 60 % of the images cross the boundary
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def trained(images: Tensor, sides: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(20):
        for rows in torch.randperm(len(images)).split(64):
            loss = nn.functional.softplus(-sides[rows] * network(images[rows])[:, 0]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def digits() -> SimpleNamespace:
    """`images`, start `noise`, and the `objectives` of three networks: above 0 is a success."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    sides = torch.where(torch.tensor(data.target) < 5, 1.0, -1.0)
    networks = [trained(images[:1500], sides[:1500], seed) for seed in range(3)]
    held_out, signs = images[1500:], sides[1500:]
    noise = torch.rand(held_out.shape, generator=torch.Generator().manual_seed(1))

    def objective(network: nn.Module) -> Objective:
        return lambda x: -signs * network(x)[:, 0]

    return SimpleNamespace(
        images=held_out,
        noise=2 * noise - 1,
        objectives=[objective(network) for network in networks],
    )


def success(attacked: Attacked) -> float:
    return float((attacked.values > 0).float().mean())


def test_the_comparison_is_on_images_that_are_neither_hopeless_nor_trivial(digits) -> None:
    for objective in digits.objectives:
        assert success(Attacked.of(objective, digits.images)) < 0.15
        attacked = pgd(objective, digits.images, epsilon=EPSILON["linf"], steps=20)
        assert 0.4 < success(attacked) < 0.8


@pytest.mark.parametrize(
    ("norm", "steps", "longer"), [("linf", 10, 100), ("linf", 20, 200), ("l2", 20, 20)]
)
def test_apgd_reaches_what_plain_pgd_needs_more_steps_for(
    digits, norm: str, steps: int, longer: int
) -> None:
    rates = []
    for objective in digits.objectives:
        attack = {"epsilon": EPSILON[norm], "noise": digits.noise, "norm": norm}
        adaptive = apgd(objective, digits.images, steps=steps, **attack)
        plain = pgd(objective, digits.images, steps=longer, **attack)
        assert adaptive.values.mean() >= plain.values.mean()
        rates.append(success(adaptive) - success(plain))
    # An image at the boundary may fall on either side of it.
    assert sum(rates) >= -1.01 / len(digits.images)


def test_square_comes_close_to_pgd_without_gradients(digits) -> None:
    generator = torch.Generator().manual_seed(2)
    objective, count = digits.objectives[0], len(digits.images)
    found = square(
        objective,
        digits.images,
        epsilon=EPSILON["linf"],
        draws=torch.rand(count, 2000, 3, generator=generator),
        stripes=2 * torch.rand(count, 1, 8, generator=generator) - 1,
    )
    gradient = pgd(objective, digits.images, epsilon=EPSILON["linf"], steps=100)
    assert success(found) >= 0.95 * success(gradient)


@norms
def test_gradients_beat_transfer_and_transfer_beats_noise(digits, norm: str) -> None:
    objective, other, _ = digits.objectives
    attack = partial(pgd, epsilon=EPSILON[norm], steps=20, norm=norm)
    direct = attack(objective, digits.images)
    moved = transfer(other, objective, digits.images, attack=attack)
    noisy = random_noise(
        objective, digits.images, epsilon=EPSILON[norm], noise=digits.noise, norm=norm
    )
    assert success(direct) > success(moved) + 0.02
    assert success(moved) > success(noisy) + 0.1

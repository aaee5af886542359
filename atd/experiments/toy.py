"""The paper's example in two dimensions (section 3.2, figure 4): what to attack in training."""

from __future__ import annotations

import json
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from atd.attacks import pgd
from atd.experiments.far_sets import conditions
from atd.experiments.missing import write
from atd.experiments.order import Order
from atd.metrics import Array
from atd.provenance import provenance
from atd.records import from_json, to_json
from atd.reporting.drawing import save
from atd.reporting.toy_page import Toy, ToySetting, toy_figure, toy_page

__all__ = ["SETTINGS", "judged", "reproduce_figure4", "samples", "trained"]

SETTINGS: dict[str, tuple[str, ...]] = {
    "b": (),
    "c": ("ID",),
    "d": ("OOD",),
    "e": ("generated",),
    "f": ("ID", "OOD"),
}
"""By panel of the figure the samples that are attacked in training; panel a shows the samples."""

_EPSILON = 1.0
_REACH = 8.0
"""Generated samples lie anywhere up to here on either axis; so does what is drawn."""
_SAMPLES = 200
_GRID = 121
_EPOCHS = {"smoke": 10, "small": 400, "paper": 2000}


def reproduce_figure4(order: Order) -> None:
    """Makes the figure of the example; of the order, only scale, seeds and page count."""
    started = time.monotonic()
    epochs, seed = _EPOCHS[order.setting.scale], order.seeds[0]
    networks = {panel: trained(attacked, epochs, seed) for panel, attacked in SETTINGS.items()}
    settings = {
        panel: ToySetting(SETTINGS[panel], judged(network, seed))
        for panel, network in networks.items()
    }
    facts = provenance(None, seed=seed, seconds=time.monotonic() - started)
    record = {
        "scale": order.setting.scale,
        "epochs": epochs,
        "epsilon": _EPSILON,
        "settings": to_json(settings),
        "provenance": facts,
    }
    toy, picture = from_json(Toy, record), order.output.with_suffix(".png")
    points = {name: some.numpy() for name, some in samples(seed).items()}
    maps = {panel: _map(network) for panel, network in networks.items()}
    save(lambda: toy_figure(toy, points, maps, _REACH), picture)
    write(order.output.with_suffix(".json"), json.dumps(record, indent=1))
    write(order.output, toy_page(toy, picture.name))


def samples(seed: int) -> dict[str, Tensor]:
    """Samples (N, 2): ID in a disc around 0, OOD in a strip to its right, generated anywhere.

    The gap between the sides is less than twice the radius of the attack: not all can be had.

    Args:
        seed: Another one gives other samples of the same distributions.
    """
    generator = torch.Generator().manual_seed(seed)
    radius, angle, x, y = torch.rand(4, _SAMPLES, generator=generator)
    angle, radius = 2 * torch.pi * angle, 2 * radius.sqrt()
    return {
        "ID": torch.stack([radius * angle.cos(), radius * angle.sin()], 1),
        "OOD": torch.stack([3.2 + 2 * x, 8 * y - 4], 1),
        "generated": (2 * torch.rand(_SAMPLES, 2, generator=generator) - 1) * _REACH,
    }


def trained(attacked: tuple[str, ...], epochs: int, seed: int) -> nn.Module:
    """A discriminator (N, 2) -> (N, 1), trained as in eq. 9 with alpha = 0.5.

    Args:
        attacked: Which samples are attacked in training.
        epochs: Passes through the samples; generated ones are other ones in each.
        seed: Seed of weights and samples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)]
        network = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    fixed = samples(seed)
    for epoch in range(epochs):
        given = {**fixed, "generated": samples(1000 * (seed + 1) + epoch)["generated"]}
        given |= {name: _attacked(network, given[name], name, 7) for name in attacked}
        inside, outside, generated = (network(given[name]).squeeze(1) for name in fixed)
        loss = functional.softplus(inside).mean()
        loss = loss + 0.5 * functional.softplus(-outside).mean()
        loss = loss + 0.5 * functional.softplus(-generated).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def judged(network: nn.Module, seed: int) -> dict[str, float]:
    """AUROC by condition on other samples than those of the training, at the same radius.

    Args:
        network: The discriminator.
        seed: That of its training.
    """
    test = samples(10_000_000 + seed)

    def scores(side: str) -> tuple[Array, Array]:
        moved = _attacked(network, test[side], side, 50)
        with torch.no_grad():
            clean, worst = (network(some).squeeze(1).double() for some in (test[side], moved))
        return clean.numpy(), worst.numpy()

    return conditions(scores("ID"), scores("OOD"))


def _attacked(network: nn.Module, points: Tensor, name: str, steps: int) -> Tensor:
    """Points moved towards the other side's scores: those of ID points rise, all others fall."""
    direction = 1 if name == "ID" else -1
    return pgd(
        lambda moved: direction * network(moved).squeeze(1),
        points,
        epsilon=_EPSILON,
        steps=steps,
        bounds=None,
    ).images


def _map(network: nn.Module) -> Array:
    """The probability (G, G) of OOD all over the plane, rows from below."""
    at = torch.linspace(-_REACH, _REACH, _GRID)
    plane = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).flatten(0, 1)
    with torch.no_grad():
        return network(plane).sigmoid().view(_GRID, _GRID).double().numpy()

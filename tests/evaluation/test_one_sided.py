"""A detector that hinders attacks on one side alone: nothing of it shows with both attacked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import atd

Bend = Callable[[Tensor], Tensor]


class Marked(nn.Module):
    """An undefended network whose score is bent on images with a bright corner, which no attack
    of these radii darkens. The network itself does not see the corner."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(1, 16, 3), nn.SiLU(), nn.Conv2d(16, 16, 3), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 1))
        self.bend: Bend = lambda score: score

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.ones_like(images)
        seen[:, :, 0, 0] = 0
        score = self.layers(2 * images * seen - 1).squeeze(1)
        return torch.where(images[:, 0, 0, 0].detach() > 0.5, self.bend(score), score)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context, score):
        return score.clone()

    @staticmethod
    def backward(context, gradient):
        return -gradient


BENDS: dict[str, Bend] = {
    "fast ripples": lambda score: score + 0.1 * torch.sin(300 * score),
    "slow ripples": lambda score: score + 0.5 * torch.sin(6 * score),
    "gradient reversed near the boundary": lambda score: torch.where(
        score > 1, score, Reversed.apply(score)
    ),
}


@pytest.fixture(scope="module")
def sides() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    pixels = torch.tensor(digits.images * 255 / 16).round().to(torch.uint8)[:, None]
    known = torch.tensor(digits.target) < 5
    outside = pixels[~known].clone()
    outside[:, :, 0, 0] = 255
    return pixels[known], outside


@pytest.fixture(scope="module")
def network(sides) -> Marked:
    torch.manual_seed(0)
    network, (inside, outside) = Marked(), sides
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        known, unknown = (side[torch.randint(500, (64,))] / 255 for side in (inside, outside))
        loss = nn.functional.softplus(network(known)) + nn.functional.softplus(-network(unknown))
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    return network.eval()


def judged(network: Marked, sides: tuple[Tensor, Tensor], epsilon: float) -> atd.Report:
    inside, outside = sides
    return atd.evaluate(
        network,
        id_test=inside[-120:],
        ood={"marked": outside[-120:]},
        id_val=inside[500:600],
        epsilon=epsilon,
        tier="paper",
        steps=40,
    )


@pytest.mark.parametrize("name", BENDS)
def test_it_is_suspected(network, sides, monkeypatch, name) -> None:
    epsilon = 0.2 if "reversed" in name else 0.3
    monkeypatch.setattr(network, "bend", BENDS[name])
    report = judged(network, sides, epsilon)
    assert report.mean["both"]["auroc"] < 0.1
    assert report.mean["out"]["auroc"] > 0.5  # several times what attacks without a mask leave
    assert report.verdict.startswith("suspicious")


def test_without_it_the_network_is_trusted(network, sides) -> None:
    report = judged(network, sides, 0.3)
    assert report.mean["out"]["auroc"] < 0.2
    assert report.verdict == "robustness numbers can be trusted"

"""Toy image sets and detectors; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.settings import Settings
from atd.evaluation.tiers import Member, Tier

TIER = Tier("smoke", (Member("pgd", 4),))


@dataclass(frozen=True)
class ToyImages:
    name: str
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, indices: Tensor) -> Tensor:
        return self.pixels[indices]


@dataclass(frozen=True)
class ToySplits:
    id_val: ToyImages
    id_test: ToyImages
    ood_test: dict[str, ToyImages]
    roles: dict[str, str]
    selection: frozenset[str] = field(default_factory=frozenset)


class Brightness(nn.Module):
    """Scores by mean brightness: the strongest attack moves it by exactly epsilon * gain."""

    def __init__(self, gain: float = 10.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def logits(self, images: Tensor) -> Tensor:
        return self.gain * images.flatten(1).mean(1)


class Convolutional(nn.Module):
    """A small random network, so that the attack has something curved to climb."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.SiLU(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 1)
        )

    def logits(self, images: Tensor) -> Tensor:
        return self.net(images).squeeze(1)


def grey(name: str, low: int, high: int, count: int, seed: int = 0) -> ToyImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(low, high, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ToyImages(name, pixels)


@pytest.fixture
def images() -> Callable[..., ToyImages]:
    return grey


@pytest.fixture
def brightness() -> nn.Module:
    return Brightness()


@pytest.fixture
def convolutional() -> nn.Module:
    return Convolutional()


@pytest.fixture
def splits() -> ToySplits:
    return ToySplits(
        id_val=grey("dark", 60, 100, 40, seed=1),
        id_test=grey("dark", 60, 100, 30, seed=2),
        ood_test={
            "bright": grey("bright", 90, 130, 25, seed=3),
            "chosen": grey("chosen", 140, 190, 20, seed=4),
            "close": grey("close", 70, 110, 15, seed=5),
        },
        roles={"bright": "far", "chosen": "far", "close": "near"},
        selection=frozenset({"chosen"}),
    )


@pytest.fixture
def settings() -> Settings:
    return Settings(tier=TIER, epsilon=8 / 255, batch_size=16, progress=False)


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """One finished evaluation for the reports; treat it as read-only."""
    sets = ToySplits(
        id_val=grey("dark", 60, 100, 40, seed=1),
        id_test=grey("dark", 60, 100, 30, seed=2),
        ood_test={"bright|wide": grey("b", 80, 130, 25, seed=3), "close": grey("c", 64, 110, 15)},
        roles={"bright|wide": "far", "close": "near"},
    )
    attack = Settings(tier=TIER, epsilon=8 / 255, progress=False)
    return evaluate(
        Brightness(), sets, attack, name="toy", path="runs/toy", baselines={"dim": Brightness(-1.0)}
    )

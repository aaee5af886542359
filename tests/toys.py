"""Toy image sets and detectors; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from atd.attacks.suite import member
from atd.detectors.base import Detector, DetectorInfo
from atd.evaluation.tiers import Tier

TIER = Tier("smoke", (member("pgd", 4),))


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


@dataclass(frozen=True)
class NoOptions:
    """A toy has none."""


class Toy(Detector):
    """A detector of toy images; a toy writes `forward` alone."""

    kind = "toy"
    Options = NoOptions
    info = DetectorInfo(title="toy", paper="none")

    def __init__(self, image_size: int = 8, channels: int = 3) -> None:
        super().__init__(None, image_size=image_size, channels=channels)


class Brightness(Toy):
    """Scores by mean brightness: the strongest attack moves it by exactly epsilon * gain."""

    def __init__(self, gain: float = 10.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, images: Tensor) -> Tensor:
        return self.gain * images.flatten(1).mean(1)


class Convolutional(Toy):
    """A small random network, so that the attack has something curved to climb."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.SiLU(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).squeeze(1)


def grey(name: str, low: int, high: int, count: int, seed: int = 0) -> ToyImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(low, high, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ToyImages(name, pixels)

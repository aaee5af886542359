"""Small classifiers as users write them; `import:nets:small` names one."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """A head with a name of its own, and no attribute that anything could guess."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.deep = nn.Sequential(nn.Conv2d(6, 8, 3, 1, 1), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.deep(self.trunk(x)).mean((2, 3))))


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small()


def ten_classes() -> nn.Module:
    return Small(10)


def a_number() -> int:
    return 3


def wrong_shape() -> nn.Module:
    return nn.Sequential(nn.Flatten(0), nn.LazyLinear(1))


def integers() -> nn.Module:
    class Rounded(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).long()

    return Rounded()


def headless() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def broken() -> nn.Module:
    raise KeyError("no such weights")


not_callable = 3


def segments() -> nn.Module:
    """Gives seven classes of every pixel."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    return nn.Sequential(inner, nn.Dropout(0.5), nn.Conv2d(6, 7, 1), nn.Upsample(scale_factor=2))

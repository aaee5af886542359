"""Energy score (Liu et al., 2020, arXiv:2010.03759)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.config.ranges import Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo

__all__ = ["Energy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyOptions:
    """Options of the energy score."""

    temperature: Annotated[float, Range(1e-3, 1_000)] = 1.0
    """Far beyond 1000, rounding makes scores of different images equal."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class Energy(Detector):
    """Scores an image by the free energy of its class logits, -T logsumexp(logits / T) (eq. 4)."""

    kind = "energy"
    Options = EnergyOptions
    info = DetectorInfo(
        title="Energy",
        paper="Liu et al., 2020, arXiv:2010.03759",
        needs=frozenset({"logits"}),
    )

    backbone: Backbone
    options: EnergyOptions

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        temperature = self.options.temperature
        return -temperature * torch.logsumexp(self.backbone(images) / temperature, dim=1)

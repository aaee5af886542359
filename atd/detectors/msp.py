"""Maximum softmax probability (Hendrycks & Gimpel, 2017, arXiv:1610.02136)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.detectors.base import Detector, DetectorInfo

__all__ = ["MaximumSoftmax", "doubt"]


def doubt(logits: Tensor) -> Tensor:
    """The log-odds (N,) that the likeliest class is wrong, log((1 - p) / p), of logits (N, K).

    With p the maximum softmax probability that ranks images exactly as 1 - p does, but it never
    saturates, so that an attack always has a gradient to follow.
    """
    ordered = logits.sort(dim=1, descending=True).values
    return torch.logsumexp(ordered[:, 1:], dim=1) - ordered[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaximumSoftmaxOptions:
    """The maximum softmax probability has no options."""


class MaximumSoftmax(Detector):
    """Scores an image by how unsure its most likely class is."""

    kind = "msp"
    Options = MaximumSoftmaxOptions
    info = DetectorInfo(
        title="Maximum softmax probability",
        paper="Hendrycks & Gimpel, 2017, arXiv:1610.02136",
        needs=frozenset({"logits"}),
    )

    backbone: Backbone

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return doubt(self.backbone(images))

"""ODIN (Liang et al., 2018, arXiv:1706.02690)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from atd.backbones.base import Backbone
from atd.config.ranges import Epsilon, Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.msp import doubt

__all__ = ["ODIN"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ODINOptions:
    """Options of ODIN."""

    temperature: Annotated[float, Range(1e-3, 1_000)] = 1000.0
    """Far beyond 1000, rounding makes scores of different images equal."""
    perturbation: Epsilon = 0.0014
    """How far each pixel moves towards the predicted class."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class ODIN(Detector):
    """Scores an image by its maximum softmax probability at a temperature, after a small step.

    x' = x - perturbation * sign(grad_x CE(f(x) / T, argmax f(x))) (eq. 2); the score is the
    log-odds against the likeliest class of f(x') / T. The derivative of the sign is zero wherever
    it exists, so the gradient at x' is the score's own; the score jumps where a sign changes.
    """

    kind = "odin"
    Options = ODINOptions
    info = DetectorInfo(
        title="ODIN",
        paper="Liang et al., 2018, arXiv:1706.02690",
        needs=frozenset({"logits"}),
        exportable="its input perturbation takes a gradient",
        passes=3.0,
    )

    backbone: Backbone
    options: ODINOptions

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        moved = images - self.options.perturbation * self._direction(images)
        return doubt(self.backbone(moved) / self.options.temperature)

    def _direction(self, images: Tensor) -> Tensor:
        """The sign of the loss's gradient, which is constant around almost every image."""
        with torch.enable_grad():
            points = images.detach().requires_grad_(True)
            logits = self.backbone(points) / self.options.temperature
            loss = cross_entropy(logits, logits.detach().argmax(dim=1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, points)
        return gradient.sign()

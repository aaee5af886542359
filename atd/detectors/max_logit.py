"""Maximum logit (Hendrycks et al., 2022, arXiv:1911.11132)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from atd.backbones.base import Backbone
from atd.detectors.base import Detector, DetectorInfo

__all__ = ["MaximumLogit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaximumLogitOptions:
    """The maximum logit has no options."""


class MaximumLogit(Detector):
    """Scores an image by its largest class logit, negated."""

    kind = "max_logit"
    Options = MaximumLogitOptions
    info = DetectorInfo(
        title="Maximum logit",
        paper="Hendrycks et al., 2022, arXiv:1911.11132",
        needs=frozenset({"logits"}),
    )

    backbone: Backbone

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        logits: Tensor = self.backbone(images)
        return -logits.amax(dim=1)

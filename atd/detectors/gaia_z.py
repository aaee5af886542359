"""GAIA-Z, zero deflation of inner gradients (Chen et al., 2023, arXiv:2311.09620)."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from atd.backbones.activations import is_normalisation, record, require_layers
from atd.backbones.base import Backbone
from atd.backbones.smoothing import SmoothCorners
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import FitData
from atd.detectors.inner_gradients import (
    Statistic,
    StatisticOptions,
    channels_of,
    gradients_at,
    in_parts,
    refuse_dead,
    require_normalisation,
)

__all__ = ["GaiaZ"]


class GaiaZ(Detector):
    """Scores an image by how much of the inner gradient is not zero.

    The gradient of the largest logit with respect to the output of every normalisation layer
    gives each channel c its share d_c of places that are not zero; the score is the mean of
    d_c^2 over the channels of all layers (`cal_zero` in the authors' code).

    The count has no gradient. The surrogate is the same with a soft count, on the network with
    softplus functions for rectifiers, differentiated twice.
    """

    kind = "gaia_z"
    Options = StatisticOptions
    info = DetectorInfo(
        title="GAIA-Z",
        paper="Chen et al., 2023, arXiv:2311.09620",
        needs=frozenset({"logits"}),
        gradient="surrogate",
        exportable="its score is made of gradients, which neither format can hold",
        passes=2,
    )

    backbone: Backbone
    options: StatisticOptions

    def __init__(
        self, backbone: Backbone, options: StatisticOptions | None = None, **of: Any
    ) -> None:
        super().__init__(backbone, options, **of)
        require_normalisation(backbone, self.kind)
        self.statistic = Statistic.of(self.options.statistic, self.options.tau, backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return in_parts(lambda part: self.statistic.score(self.gradients(part)), images)

    def surrogate(self, images: Tensor) -> Tensor:
        """Stand-in (N,) with a gradient: a soft count on the smoothed network."""
        with SmoothCorners():
            gradients = self.gradients(images, differentiable=images.requires_grad)
            return self.statistic.score(gradients, soft=True)

    def gradients(self, images: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """The gradient of the largest logit at every normalisation layer, (N, C, P) each."""
        recording = record(self.backbone, images, is_normalisation, gradients=True)
        labels, values = zip(*require_layers(recording, "normalisation layers"), strict=True)
        found = gradients_at(
            values, lambda: recording.output.amax(1), differentiable=differentiable
        )
        return [
            channels_of(self.backbone, label, gradient)
            for label, gradient in zip(labels, found, strict=True)
        ]

    def fit(self, data: FitData, *, seed: int) -> Self:
        """Fits nothing; refuses a dead network.

        Raises:
            UserError: All gradients are zero on the first ID images.
        """
        refuse_dead(self.gradients, data)
        return self

"""GAIA-A, channel-wise average abnormality (Chen et al., 2023, arXiv:2311.09620)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from atd.backbones.activations import Recording, is_normalisation, record, require_layers
from atd.backbones.base import Backbone
from atd.backbones.smoothing import SmoothCorners
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import FitData
from atd.detectors.inner_gradients import (
    channels_of,
    gradients_at,
    in_parts,
    refuse_dead,
    require_normalisation,
)

__all__ = ["GaiaA"]

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class GaiaAOptions:
    """Options of GAIA-A."""

    layers: Literal["deep", "all"] = "deep"
    """Normalisation layers read: of the last two of four stages (the paper, for ResNets), or all
    (the paper, for WideResNets)."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class GaiaA(Detector):
    """Scores an image by its inner gradients, relative to the outer one.

    Outer: the gradient of the summed log-softmax at the last feature map; averaged over space,
    absolute values averaged over channels, root: o. Inner: the gradient of the summed pooled
    features at normalisation layers, averaged over space, absolute: i_c. The score is the mean of
    (i_c / o)^2 over the channels (`cal_grad_value` in the authors' code).

    Without rectifiers the surrogate has the score's own value and gradient. On a network of
    rectifiers i_c is constant between its corners; the surrogate has softplus functions instead.
    """

    kind = "gaia_a"
    Options = GaiaAOptions
    info = DetectorInfo(
        title="GAIA-A",
        paper="Chen et al., 2023, arXiv:2311.09620",
        needs=frozenset({"logits"}),
        gradient="surrogate",
        exportable="its score is made of gradients, which neither format can hold",
        passes=3,
    )

    backbone: Backbone
    options: GaiaAOptions

    def __init__(self, backbone: Backbone, options: GaiaAOptions | None = None, **of: Any) -> None:
        super().__init__(backbone, options, **of)
        require_normalisation(backbone, self.kind)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return in_parts(self._score, images)

    def surrogate(self, images: Tensor) -> Tensor:
        """Stand-in (N,) with a gradient: the score of the smoothed network."""
        with SmoothCorners():
            return self._score(images, differentiable=images.requires_grad)

    def _score(self, images: Tensor, *, differentiable: bool = False) -> Tensor:
        outer, inner = self.components(images, differentiable=differentiable)
        return (inner / outer[:, None]).square().mean(1)

    def components(self, images: Tensor, *, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """The outer component (N,) and the inner ones of all channels (N, C)."""
        head, last = self.backbone.head_name, self.backbone.stage_layers[-1:]

        def select(name: str, layer: nn.Module) -> bool:
            return name in self.backbone.stage_layers or is_normalisation(name, layer)

        def call(part: Tensor) -> Recording:
            return record(self.backbone, part, [head], side="input")

        recording = record(self.backbone, images, select, call=call, gradients=True)
        logits, embedding = recording.output.output, recording.output.values()[0]
        maps = next((value for label, value in recording.activations if label in last), embedding)
        rows = self._rows(recording)
        (at_maps,) = gradients_at(
            [maps], lambda: logits.log_softmax(1), differentiable=differentiable, keep=True
        )
        found = gradients_at(
            [value for _, value in rows],
            lambda: embedding.flatten(2).mean(2) if embedding.ndim > 2 else embedding,
            differentiable=differentiable,
        )
        averaged = at_maps.flatten(2).mean(2) if at_maps.ndim == 4 else at_maps.flatten(1)
        outer = (averaged.abs().mean(1) + _TINY).sqrt()
        inner = [
            channels_of(self.backbone, label, gradient).mean(2).abs()
            for (label, _), gradient in zip(rows, found, strict=True)
        ]
        return outer, torch.cat(inner, dim=1)

    def _rows(self, recording: Recording) -> list[tuple[str, Tensor]]:
        """The normalisation layers to read, with their values."""
        stages = self.backbone.stage_layers
        rows = require_layers(recording, "normalisation layers")
        labels = [label for label, _ in rows]
        if self.options.layers == "deep" and len(stages) > 2 and stages[-3] in labels:
            rows = rows[labels.index(stages[-3]) + 1 :]
        parts = self.backbone.get_submodule
        return [row for row in rows if is_normalisation(row[0], parts(row[0].partition("#")[0]))]

    def fit(self, data: FitData, *, seed: int) -> Self:
        """Fits nothing; refuses a dead network.

        Raises:
            UserError: All gradients are zero on the first ID images.
        """
        refuse_dead(lambda images: self.components(images)[1:], data)
        return self

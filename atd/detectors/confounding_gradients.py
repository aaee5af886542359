"""Gradients with confounding labels (Lee, Prabhushankar and AlRegib, 2022)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from atd.backbones.base import Backbone
from atd.backbones.smoothing import SmoothCorners
from atd.config.ranges import Count, LearningRate, Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.binary_head import fit_binary_head
from atd.detectors.fitting import FitData, collect
from atd.detectors.parameter_gradients import squared_norms
from atd.errors import UserError

__all__ = ["ConfoundingGradients"]

_TINY = 1e-30
_FITTED = (
    "centre",
    "spread",
    "held_out",
    "hidden_weight",
    "hidden_bias",
    "last_weight",
    "last_bias",
)
_TOLD = {
    "outliers": "fitted on outliers only",
    "leave_one_out": "fitted on the other anomalies",
    "anomaly": "fitted on the anomaly tested",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfoundingGradientsOptions:
    """Options of confounding-label gradients."""

    label: list[Annotated[float, Range(0, 1)]] = field(default_factory=list)
    """The confounding label, a value for each class; empty is all ones (the paper)."""
    head: Literal["mlp", "sum"] = "mlp"
    """`mlp`: the paper's detector, fitted to ID images and outliers; `sum`: the sum of the
    logarithms of the norms, which needs no fitting (ours)."""
    protocol: Literal["outliers", "leave_one_out", "anomaly"] = "outliers"
    """What the outliers of the fit are, which the detector's name tells: images that are not
    tested on; every anomaly but the one that is tested; or that one itself (the paper), which no
    user has and which makes an upper bound."""
    hidden: Annotated[int, Range(1, 4096)] = 64
    """Units of the hidden layer."""
    epochs: Count = 100
    """At most; the epoch that is best on the validation images is kept."""
    learning_rate: LearningRate = 1e-3

    def __post_init__(self) -> None:
        settle(self, "detector")


class ConfoundingGradients(Detector):
    """Scores an image by how far the network would have to move to give it an impossible label.

    d_p is the squared norm of the gradient of the binary cross-entropy between the logits and the
    label, averaged over the classes (eqs. 1 and 2), with respect to parameter tensor p. A
    perceptron of two layers on the standardised log(1 + d) gives the raw logit of `outlier`.

    The score has a gradient of its own, through the gradients inside. On a network of rectifiers it
    knows nothing of the corners; the surrogate, with softplus functions instead, leads attacks up
    to a tenth further. On other networks the two are the same.
    """

    kind = "confounding_gradients"
    Options = ConfoundingGradientsOptions
    info = DetectorInfo(
        title="Confounding-label gradients",
        paper="Lee, Prabhushankar and AlRegib, 2022, arXiv:2206.08255",
        needs=frozenset({"logits", "fitting", "outliers"}),
        gradient="surrogate",
        exportable="its score is made of gradients, which neither format can hold",
        passes=2,
    )

    backbone: Backbone
    options: ConfoundingGradientsOptions
    label: Tensor
    centre: Tensor
    spread: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    last_weight: Tensor
    last_bias: Tensor
    held_out: Tensor
    """AUROC and accuracy on the 20 % of ID images and outliers that the fit has not seen."""

    def __init__(
        self, backbone: Backbone, options: ConfoundingGradientsOptions | None = None, **of: Any
    ) -> None:
        super().__init__(backbone, options, **of)
        label, classes = self.options.label, backbone.classes
        if label and len(label) != classes:
            raise UserError(
                f"detector.label has {len(label)} values, and the backbone {classes} classes: "
                "give one for each class, or none for all ones"
            )
        self.register_buffer("label", torch.tensor(label or [1.0] * classes))
        if self.options.head == "mlp":
            for name in _FITTED:
                self.register_buffer(
                    name, torch.zeros(0, 0) if "weight" in name else torch.zeros(0)
                )

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return self._judged(self.norms(images))

    def surrogate(self, images: Tensor) -> Tensor:
        """Stand-in (N,): the score of the smoothed network."""
        with SmoothCorners():
            norms = self.norms(images)
        return self._judged(norms)

    def _judged(self, norms: Tensor) -> Tensor:
        """Scores (N,) of squared norms (N, P)."""
        if self.options.head == "sum":
            return norms.clamp_min(_TINY).log().sum(1)
        vectors = (norms.log1p() - self.centre) / self.spread
        hidden = functional.linear(vectors, self.hidden_weight, self.hidden_bias).relu()
        return functional.linear(hidden, self.last_weight, self.last_bias).squeeze(1)

    def norms(self, images: Tensor) -> Tensor:
        """The squared norm of the gradient of every parameter tensor, (N, P) (eq. 2)."""

        def loss(logits: Tensor) -> Tensor:
            return functional.binary_cross_entropy_with_logits(logits, self.label)

        return squared_norms(self.backbone, images, loss)

    def fit(self, data: FitData, *, seed: int) -> Self:
        """Fits the perceptron (40 % of the images train it, 40 % choose the epoch, 20 % judge it).

        Raises:
            UserError: There are no outliers, too few images, or the network is dead.
        """
        if self.options.head == "sum":
            return self
        options, told = self.options, _TOLD[self.options.protocol]
        inside, _ = collect(lambda images: self.norms(images).log1p(), data.id)
        if data.outliers is None:
            raise UserError(f"detector.kind={self.kind} is fitted on outliers: set data.outliers")
        if not inside.any():
            raise UserError(
                "every gradient of the network's weights is zero (a dead network): "
                "give a trained classifier as backbone"
            )
        outside, _ = collect(lambda images: self.norms(images).log1p(), data.outliers)
        found = fit_binary_head(
            inside,
            outside,
            hidden=options.hidden,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            seed=seed,
        )
        tensors = (found.centre, found.spread, found.held_out, *found.head.parameters())
        for name, tensor in zip(_FITTED, tensors, strict=True):
            setattr(self, name, tensor.detach().to(self.label.device))
        if told not in self.config.name:
            name = f"{self.config.name} ({told})"[-100:]
            self.config = dataclasses.replace(self.config, name=name)
        return self

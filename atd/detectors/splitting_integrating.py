"""S & I: splitting of layers, integrating of gradients (2025, ICML, PMLR 267)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from atd.backbones.activations import Recording, is_normalisation, record, require_layers
from atd.backbones.base import Backbone
from atd.backbones.smoothing import SmoothCorners
from atd.config.ranges import Range
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

__all__ = ["SplittingIntegrating"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplittingIntegratingOptions(StatisticOptions):
    """Options of S & I; the paper says only that layers are aggregated as GAIA does."""

    variant: Literal["released", "paper"] = "released"
    """`released`: what the authors' code computes, which made their numbers; `paper`: the
    integral that the paper writes down and the code does not contain."""
    combine: Literal["add", "multiply"] = "add"
    """How `released` joins the gradients along the path."""
    steps: Annotated[int, Range(1, 1000)] = 2
    """Points T of the path at which gradients are taken, its beginning included."""
    eta: Annotated[float, Range(0, 100)] = 0.001
    """Length of a step in each element of an activation."""


@dataclass(frozen=True)
class _Point:
    """Gradients (N, ...) at a layer: what is read, and what the path follows."""

    read: Tensor
    followed: Tensor


class SplittingIntegrating(Detector):
    """Scores an image by gradients along an adversarial path of each inner activation.

    The network is split at the output x of every normalisation layer. From x_0 = x, each step
    x_i = x_{i-1} + eta sign(g) goes up the cross-entropy of the class predicted for the image.

    * `paper`: A = sum over i = 1..T of dx_{i-1} * gradient of the cross-entropy at x_{i-1}, with
      dx_i = x_i - x_{i-1} and dx_0 = x.
    * `released`: A is the sum, or the product, of the gradients of the largest logit at
      x_0 .. x_{T-1}. A place with gradient zero is never moved, so that `add` counts the same
      places as GAIA-Z does, at a multiple of its cost.

    How dense A is makes the score, as in `gaia_z`. The cross-entropy -log p is computed as
    log(1 + exp(log(1 - p) - log p)), whose gradient loses nothing to rounding where the network is
    sure.

    The surrogate takes the gradient along the path to be that at its beginning, which the smallness
    of eta allows, counts softly and has softplus functions for rectifiers.
    """

    kind = "splitting_integrating"
    Options = SplittingIntegratingOptions
    info = DetectorInfo(
        title="S & I",
        paper="Splitting & Integrating, 2025, ICML, PMLR 267",
        needs=frozenset({"logits"}),
        gradient="surrogate",
        exportable="its score is made of gradients, which neither format can hold",
        passes=37,  # on a ResNet-18; each detector says its own number
    )

    backbone: Backbone
    options: SplittingIntegratingOptions

    def __init__(
        self, backbone: Backbone, options: SplittingIntegratingOptions | None = None, **of: Any
    ) -> None:
        super().__init__(backbone, options, **of)
        require_normalisation(backbone, self.kind)
        self.statistic = Statistic.of(self.options.statistic, self.options.tau, backbone)
        self.info = dataclasses.replace(type(self).info, passes=self._passes())  # type: ignore[misc]

    def _passes(self) -> float:
        """One pass for the start of all paths, and one for each further point of each path."""
        layers = sum(is_normalisation(*item) for item in self.backbone.named_modules())
        points, backward = self.options.steps - 1, 1 if self.options.variant == "paper" else 2
        # The last point of a path is not left again, and needs no direction.
        last = points * (1 + backward) - (backward - 1) if points else 0
        return 1 + backward + layers * last

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return in_parts(lambda part: self.statistic.score(self.attributions(part)), images)

    def attributions(self, images: Tensor) -> list[Tensor]:
        """A of every split, (N, C, P) each."""
        recording, starts = self._start(images)
        predicted = recording.output.argmax(1)
        found = []
        for (label, value), start in zip(recording.activations, starts, strict=True):
            whole = self._along(images, label, value.detach(), start, predicted)
            found.append(channels_of(self.backbone, label, whole))
        return found

    def surrogate(self, images: Tensor) -> Tensor:
        """Stand-in (N,) with a gradient."""
        with SmoothCorners():
            recording, starts = self._start(images, differentiable=images.requires_grad)
            steps = self.options.steps
            found = []
            for (label, value), start in zip(recording.activations, starts, strict=True):
                if self.options.variant == "paper":
                    further = (steps - 1) * self.options.eta * start.read.abs()
                    whole = value * start.read + further
                else:
                    whole = start.read if self.options.combine == "add" else start.read**steps
                found.append(channels_of(self.backbone, label, whole))
            return self.statistic.score(found, soft=True)

    def _start(
        self, images: Tensor, *, differentiable: bool = False
    ) -> tuple[Recording, list[_Point]]:
        """The network's own values at every split, with the gradients there."""
        recording = record(self.backbone, images, is_normalisation, gradients=True)
        require_layers(recording, "normalisation layers")
        predicted = recording.output.argmax(1)
        values = recording.values()
        return recording, self._points(recording, values, predicted, differentiable)

    def _points(
        self,
        recording: Recording,
        values: Sequence[Tensor],
        predicted: Tensor,
        differentiable: bool = False,
        last: bool = False,
    ) -> list[_Point]:
        logits = recording.output

        def entropy() -> Tensor:
            return functional.softplus(_odds_against(logits, predicted))

        if self.options.variant == "paper":
            found = gradients_at(values, entropy, differentiable=differentiable)
            return [_Point(gradient, gradient) for gradient in found]
        read = gradients_at(
            values, lambda: logits.amax(1), differentiable=differentiable, keep=not last
        )
        followed = read if last else gradients_at(values, entropy, differentiable=differentiable)
        return [_Point(*pair) for pair in zip(read, followed, strict=True)]

    def _along(
        self, images: Tensor, label: str, value: Tensor, start: _Point, predicted: Tensor
    ) -> Tensor:
        """A (N, ...) of one split, from the gradients along its path."""
        paper, multiply = self.options.variant == "paper", self.options.combine == "multiply"
        point, whole = start, value * start.read if paper else start.read
        for number in range(1, self.options.steps):
            step = self.options.eta * point.followed.sign()
            value = value + step
            replaced = record(
                self.backbone, images, [label], replace={label: value}, gradients=True
            )
            last = number == self.options.steps - 1
            (point,) = self._points(replaced, replaced.values(), predicted, last=last)
            if paper:
                whole = whole + step * point.read
            else:
                whole = whole * point.read if multiply else whole + point.read
        return whole

    def fit(self, data: FitData, *, seed: int) -> Self:
        """Fits nothing; refuses a dead network.

        Raises:
            UserError: All gradients are zero on the first ID images.
        """
        refuse_dead(lambda images: [point.read for point in self._start(images)[1]], data)
        return self


def _odds_against(logits: Tensor, predicted: Tensor) -> Tensor:
    """log(1 - p) - log p (N,) of a class (N,)."""
    chosen = functional.one_hot(predicted, logits.shape[1]).bool()
    others = logits.masked_fill(chosen, -torch.inf).logsumexp(1)
    return others - logits.gather(1, predicted[:, None]).squeeze(1)

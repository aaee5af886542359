"""OpenMax (Bendale & Boult, 2016, arXiv:1511.06233)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.config.ranges import Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import FitData, collect
from atd.detectors.statistics import class_means, require_labels
from atd.errors import UserError
from atd.inference import frozen

__all__ = ["OpenMax", "fit_tail"]

_FARTHEST = 1e8
"""Distances that no logits have, within which 1 - beyond / (2 + beyond) is no 0."""
_SHIFT = 10_000.0
"""libMR, the authors' library, fits the Weibull distribution to distances moved by so much."""
_STEEPEST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMaxOptions:
    """Options of OpenMax."""

    tail: Annotated[int, Range(2, 100_000)] = 20
    """Largest distances of a class that its Weibull distribution is fitted to."""
    alpha: Annotated[int, Range(1, 100_000)] = 10
    """Classes that are revised, the likeliest first; at most all."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class OpenMax(Detector):
    """Scores an image by the odds of an unknown class that takes over from doubtful ones.

    A logit v_c loses the share w_c = (alpha + 1 - rank) / alpha * F_c(|v - mean_c|) to the unknown
    class, with F_c the Weibull distribution of the largest distances of class c (algorithms 1 and
    2). The score is the log-odds of the unknown class in the softmax of what comes out: it ranks
    images as the probability does and does not saturate.
    """

    kind = "openmax"
    Options = OpenMaxOptions
    info = DetectorInfo(
        title="OpenMax",
        paper="Bendale & Boult, 2016, arXiv:1511.06233",
        needs=frozenset({"logits", "labels", "fitting"}),
    )

    backbone: Backbone
    options: OpenMaxOptions
    means: Tensor
    tails: Tensor

    def __init__(self, backbone: Backbone, options: Any = None, **of: Any) -> None:
        super().__init__(backbone, options, **of)
        self.register_buffer("means", torch.zeros(backbone.classes, backbone.classes))
        self.register_buffer("tails", torch.zeros(0, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        logits: Tensor = self.backbone(images)
        least, shape, scale = self.tails.unbind(dim=1)
        distances = torch.linalg.vector_norm(logits.unsqueeze(1) - self.means, dim=2)
        beyond = (distances - least).clamp(-_SHIFT / 2, _FARTHEST) / _SHIFT
        # The logarithm of 1 + beyond, which ONNX computes as it stands and so to three digits only.
        hazard = shape * (2 * torch.atanh(beyond / (2 + beyond)) - scale)
        # Beyond e^4 the distribution is 1 to the last digit, and e^hazard may overflow.
        outlying = -torch.expm1(-hazard.clamp_max(4.0).exp())
        lost = logits * outlying * self._rank_weights(logits)
        return lost.sum(dim=1) - torch.logsumexp(logits - lost, dim=1)

    def _rank_weights(self, logits: Tensor) -> Tensor:
        """(N, K): 1, (alpha - 1) / alpha, ... for the likeliest classes, 0 for those after."""
        alpha = min(self.options.alpha, logits.shape[1])
        rank = logits.argsort(dim=1, descending=True).argsort(dim=1)
        return ((alpha - rank) / alpha).clamp_min(0).to(logits)

    @torch.no_grad()
    def fit(self, data: FitData, *, seed: int) -> Self:
        """Finds each class's mean logits and Weibull tail, in float64.

        As in the paper only images that the backbone classifies rightly count, unless a class has
        fewer than three of them.

        Args:
            data: ID images and their labels.
            seed: Not used.

        Returns:
            The detector itself.

        Raises:
            UserError: A label is missing or unknown, or a class has fewer than three images.
        """
        with frozen(self.backbone):
            logits, labels = collect(self.backbone, data.id)
        classes = self.backbone.classes
        require_labels(self, labels, classes)
        count = torch.bincount(labels, minlength=classes)
        if count.min() < 3:
            least = int(count.argmin())
            raise UserError(
                f"detector.kind=openmax: class {least} has {int(count[least])} ID image(s), and at "
                "least 3 are needed for the tail of its distances"
            )
        right = logits.argmax(dim=1) == labels
        known = torch.bincount(labels[right], minlength=classes) >= 3
        kept = right | ~known[labels]
        logits, labels = logits[kept], labels[kept]
        means = class_means(logits, labels, classes)
        distances = (logits - means[labels]).square().sum(dim=1).sqrt()
        tails = [fit_tail(distances[labels == c], self.options.tail) for c in range(classes)]
        self.means = means.to(self.means)
        self.tails = torch.tensor(tails, dtype=torch.float64).to(self.means)
        return self


def fit_tail(distances: Tensor, tail: int) -> tuple[float, float, float]:
    """Fits a Weibull distribution to the largest distances, as libMR's `fit_high` does.

    Args:
        distances: (N,) float64, at least two.
        tail: How many of the largest count.

    Returns:
        The least of them, the shape k, and the logarithm of scale / 10000, so that
        F(d) = 1 - exp(-exp(k (log(1 + (d - least) / 10000) - log_scale))). The shape is where the
        likelihood has its maximum, found by bisection.
    """
    largest = distances.sort(descending=True).values[:tail]
    least = float(largest[-1])
    logs = torch.log1p((largest - least) / _SHIFT)
    low, high = 1e-3, _STEEPEST
    for _ in range(200):
        shape = math.sqrt(low * high)
        slope = float((logs * (shape * logs).softmax(dim=0)).sum() - logs.mean()) - 1 / shape
        low, high = (shape, high) if slope < 0 else (low, shape)
    scale = float((shape * logs).logsumexp(dim=0) - math.log(len(logs))) / shape
    return least, shape, scale

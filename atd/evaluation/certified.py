"""What is certain of a detector, as `results.json` holds it (key `certificate`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Attempt", "Certificate", "CertifiedAuroc"]


@dataclass(frozen=True)
class CertifiedAuroc:
    """The smoothed score's AUROC that is certain at one radius.

    Attributes:
        radius: L2 radius on the [0, 1] scale.
        linf: Radius of the largest L-infinity ball inside: radius / sqrt(elements of an image).
        in_: ID images attacked.
        out: OOD images attacked.
        both: All images attacked.
        abstained: Share of the images of both sides without a finite bound.
    """

    radius: float
    linf: float
    in_: float
    out: float
    both: float
    abstained: float


@dataclass(frozen=True)
class Attempt:
    """The smoothed score's AUROC under an attack on both sides, on a few images of pooled sets.

    Attributes:
        radius: L2 radius on the [0, 1] scale.
        auroc: What the attack leaves.
        certified: What is certain on the same images; less, but for the noise of the medians.
    """

    radius: float
    auroc: float
    certified: float


@dataclass(frozen=True)
class Certificate:
    """What is certain of a detector's smoothed score.

    Attributes:
        norm: Norm of the balls.
        sigma: Standard deviation of the noise.
        draws: Noisy copies of each image.
        confidence: Probability over the noise with which all bounds hold at once.
        error: Probability with which a single bound may fail.
        images: Images of all sets, ID and OOD.
        smoothed: Empirical AUROC of the smoothed score, nothing attacked; mean like `mean`.
        mean: By radius, mean over the sets that means are taken over (`Results.mean_over`).
        datasets: The same of each OOD set.
        attack: The attack behind `attempts`.
        attacked: Images of either side that were attacked.
        attempts: What an attack on the smoothed score left, by radius.
    """

    norm: Literal["l2"]
    sigma: float
    draws: int
    confidence: float
    error: float
    images: int
    smoothed: float
    mean: list[CertifiedAuroc]
    datasets: Mapping[str, list[CertifiedAuroc]]
    attack: str = ""
    attacked: int = 0
    attempts: list[Attempt] = field(default_factory=list)

"""Detectors of the papers to compare with, one file each; all offer `logits(images)`."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from atd.detectors.energy import Energy
from atd.detectors.mahalanobis import Mahalanobis
from atd.detectors.msp import MaximumSoftmax
from atd.errors import UserError

__all__ = ["BASELINES", "Energy", "Mahalanobis", "MaximumSoftmax", "build_baseline"]

BASELINES = ("msp", "energy", "mahalanobis", "relative_mahalanobis")


def build_baseline(
    name: str, backbone: nn.Module, fit_batches: Iterable[tuple[Tensor, Tensor]]
) -> nn.Module:
    """Builds a baseline on a trained backbone and fits it where it needs fitting.

    Args:
        name: One of `BASELINES`.
        backbone: Classifier with `embed`, `embedding_dim` and `classes`; shared, not copied.
        fit_batches: ID training images as float (B, C, H, W) in [0, 1] on the backbone's
            device, with labels (B,), -1 where unlabelled. Read only if needed.

    Returns:
        A module with `logits(images) -> (N,)`, larger = more OOD, on the backbone's device.

    Raises:
        UserError: Unknown name, or the baseline cannot be fitted to these images.
    """
    device = next(backbone.parameters()).device
    match name:
        case "msp":
            return MaximumSoftmax(backbone)
        case "energy":
            size = next(iter(fit_batches))[0].shape
            return Energy(backbone, image_size=size[-1], channels=size[1])  # type: ignore[arg-type]
        case "mahalanobis" | "relative_mahalanobis":
            classes = max(int(backbone.classes), 1)  # type: ignore[arg-type]
            relative = name == "relative_mahalanobis"
            unfitted = Mahalanobis(backbone, classes=classes, relative=relative).to(device)
            return unfitted.fit(fit_batches)
    raise UserError(f"evaluate.baselines={name}: unknown; choose from {', '.join(BASELINES)}")

"""Maximum softmax probability (Hendrycks & Gimpel, 2017, arXiv:1610.02136)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atd.errors import UserError

__all__ = ["MaximumSoftmax"]


class MaximumSoftmax(nn.Module):
    """Scores an image by how unsure its most likely class is.

    The score is the log-odds that the most likely class is wrong, log((1 - p) / p) with p the
    maximum softmax probability. That ranks images exactly as 1 - p does but never saturates, so
    that an attack always has a gradient to follow.

    Args:
        backbone: Classifier, images -> class logits (N, K) with K >= 2.

    Raises:
        UserError: The classifier has a single class.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        if getattr(backbone, "classes", 2) < 2:
            raise UserError("baseline msp: it needs a classifier with at least two classes")
        self.backbone = backbone

    def logits(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        logits: Tensor = self.backbone(images)
        ordered = logits.sort(dim=1, descending=True).values
        return torch.logsumexp(ordered[:, 1:], dim=1) - ordered[:, 0]

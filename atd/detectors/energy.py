"""Energy score (Liu et al., 2020, arXiv:2010.03759)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Energy"]


class Energy(nn.Module):
    """Scores an image by the free energy of its class logits (eq. 4, temperature 1).

    Args:
        backbone: Classifier, images -> class logits (N, K).
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def logits(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return -torch.logsumexp(self.backbone(images), dim=1)

"""Standard training: the cross-entropy of clean images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from atd.training.objectives.base import Network, Objective

__all__ = ["OBJECTIVE", "Standard"]


class Standard(Objective):
    """Learns from clean images."""

    raises = "nothing"

    def loss(
        self, network: Network, images: Tensor, attacked: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        (logits,) = network.passes(images)
        return F.cross_entropy(
            logits, labels, label_smoothing=network.config.label_smoothing
        ), logits


OBJECTIVE = Standard()

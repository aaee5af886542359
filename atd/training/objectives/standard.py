"""Standard training: the cross-entropy of clean images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Standard"]


class Standard(Objective):
    """Learns from clean images."""

    raises = "nothing"

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        (logits,) = network.passes(inside.images)
        return F.cross_entropy(
            logits, inside.labels, label_smoothing=network.config.label_smoothing
        ), logits


OBJECTIVE = Standard()

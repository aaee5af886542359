"""Adversarial training (Madry et al., 2018, arXiv:1706.06083)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Adversarial"]


class Adversarial(Objective):
    """Learns from attacked images alone: the cross-entropy at x + delta (eq. 2.1)."""

    raises = "classification loss"

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        (logits,) = network.passes(inside.attacked)
        return F.cross_entropy(
            logits, inside.labels, label_smoothing=network.config.label_smoothing
        ), logits


OBJECTIVE = Adversarial()

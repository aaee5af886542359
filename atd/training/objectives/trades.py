"""TRADES (Zhang et al., 2019, arXiv:1901.08573)."""

from __future__ import annotations

from torch import Tensor

from atd.training.losses import trades_loss
from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Trades"]


class Trades(Objective):
    """CE(clean) + beta * KL(clean || attacked) (eq. 5)."""

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        config = network.config
        adversarial, logits = network.passes(inside.attacked, inside.images)
        loss = trades_loss(logits, adversarial, inside.labels, config.beta, config.label_smoothing)
        return loss, logits


OBJECTIVE = Trades()

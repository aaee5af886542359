"""HAT, helper-based adversarial training (Rade & Moosavi-Dezfooli, ICLR 2022)."""

from __future__ import annotations

from torch import Tensor

from atd.training.losses import hat_loss
from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Hat"]


class Hat(Objective):
    """CE(clean) + beta * KL(clean || attacked) + gamma * CE(f(x + h * delta), helper label)."""

    helped = True

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        config = network.config
        helper_labels = network.helper(inside.attacked).argmax(1)
        # Beyond the attack, and on purpose not clipped to [0, 1]: the published recipe.
        beyond = inside.images + config.helper_reach * (inside.attacked - inside.images)
        adversarial, logits, reached = network.passes(inside.attacked, inside.images, beyond)
        loss = hat_loss(
            logits,
            adversarial,
            reached,
            inside.labels,
            helper_labels,
            config.beta,
            config.gamma,
            config.label_smoothing,
        )
        return loss, logits


OBJECTIVE = Hat()

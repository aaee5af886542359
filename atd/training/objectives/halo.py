"""HALO, helper-based adversarial outlier exposure (Lyons Keenan et al., 2025, arXiv:2502.19755)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from atd.training.losses import kl_per_sample
from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Halo"]


class Halo(Objective):
    """HAT's loss of ID images, and of outliers the same two terms with the uniform label.

    CE(f(x), y) + eta CE(f(o), uniform) + beta [KL(f(x) || f(x + d)) + eta KL(f(o) || f(o + d))]
    + gamma CE(f(x + h d), label of the helper at x + d), with eta the weight of the outliers. The
    published beta is 3. Attacks start near the image, as HAT's do, not anywhere in the ball.
    """

    helped = True
    beside = "outliers"
    raises_beside = "divergence"
    outlier_weight = 2.0

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        config, eta = network.config, self.weight(network.config)
        helper_labels = network.helper(inside.attacked).argmax(1)
        images = torch.cat([inside.images, beside.images])
        attacked = torch.cat([inside.attacked, beside.attacked])
        # Beyond the attack, and on purpose not clipped to [0, 1]: the published recipe.
        beyond = images + config.helper_reach * (attacked - images)
        adversarial, clean, reached = network.passes(attacked, images, beyond)
        logits, exposed = clean.chunk(2)
        smoothing = config.label_smoothing
        loss = F.cross_entropy(logits, inside.labels, label_smoothing=smoothing)
        loss = loss + eta * self.beside_loss(exposed, beside.labels).mean()
        divergence, of_outliers = kl_per_sample(clean, adversarial).chunk(2)
        loss = loss + config.beta * (divergence.mean() + eta * of_outliers.mean())
        helped = F.cross_entropy(reached.chunk(2)[0], helper_labels)
        return loss + config.gamma * helped, logits


OBJECTIVE = Halo()

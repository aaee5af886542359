"""ATOM, adversarial training with informative outlier mining (Chen et al., ECML 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Atom"]


class Atom(Objective):
    """Outliers are a class of their own, the last one (arXiv:2006.15207).

    CE(ID) + lambda * CE(outliers, last class), the mean over clean and attacked outliers, of each
    as many. In every epoch they are mined anew (`atd.training.mining`). The published code
    attacks one half of the outliers and leaves the other clean; here each outlier is both.
    """

    raises = "nothing"
    beside = "outliers"
    raises_beside = "classification loss"
    mines = True
    outlier_weight = 1.0
    backbone = {"outlier_class": True}

    def beside_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (N,) to the last class."""
        return F.cross_entropy(outputs, labels + outputs.shape[1] - 1, reduction="none")

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        config = network.config
        images = torch.cat([inside.images, beside.images, beside.attacked])
        (outputs,) = network.passes(images)
        logits, clean, attacked = outputs.chunk(3)
        loss = F.cross_entropy(logits, inside.labels, label_smoothing=config.label_smoothing)
        outliers = torch.cat([self.beside_loss(x, beside.labels) for x in (clean, attacked)])
        return loss + self.weight(config) * outliers.mean(), logits


OBJECTIVE = Atom()

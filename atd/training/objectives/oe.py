"""Outlier exposure (Hendrycks et al., 2019, arXiv:1812.04606)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from atd.training.objectives.base import Network, Objective, Raises, Side

__all__ = ["OBJECTIVE", "OutlierExposure"]


class OutlierExposure(Objective):
    """CE(ID) + lambda * CE(outliers, uniform), on clean images.

    As in the published code, batch normalisation takes the statistics of both sides together.
    """

    raises: ClassVar[Raises] = "nothing"
    beside = "outliers"

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        config = network.config
        (both,) = network.passes(torch.cat([inside.attacked, beside.attacked]))
        logits, exposed = both.chunk(2)
        loss = F.cross_entropy(logits, inside.labels, label_smoothing=config.label_smoothing)
        outliers = self.beside_loss(exposed, beside.labels).mean()
        return loss + self.weight(config) * outliers, logits


OBJECTIVE = OutlierExposure()

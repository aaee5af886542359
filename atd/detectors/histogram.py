"""Histogram-based outlier score (Goldstein and Dengel, 2012)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Histogram"]

_ALPHA = 0.1


class Histogram(nn.Module):
    """Minus the log density of each dimension's histogram, averaged over dimensions.

    Densities are raised by 0.1 (pyod's `alpha`), which is all that is left outside of the range
    seen in the fit. Buffers have no size before the fit.
    """

    low: Tensor
    width: Tensor
    cost: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(0))
        self.register_buffer("width", torch.zeros(0))
        self.register_buffer("cost", torch.zeros(0, 0))

    @torch.no_grad()
    def fit(self, values: Tensor, bins: int) -> None:
        """Counts values (N, D) in so many bins of equal width for each dimension."""
        low, high = values.amin(0), values.amax(0)
        self.low = low
        self.width = ((high - low) / bins).clamp_min(1e-6)
        index = ((values - low) / self.width).long().clamp(0, bins - 1)
        counts = values.new_zeros(bins, values.shape[1])
        counts.scatter_add_(0, index, torch.ones_like(values))
        density = counts / len(values) / self.width
        self.cost = -(density + _ALPHA).log().T.contiguous()

    def forward(self, values: Tensor) -> Tensor:
        """Scores (N,) of values (N, D): the cost of the bin each value lies in."""
        bins = self.cost.shape[1]
        place = (values - self.low) / self.width
        inside = (place >= 0) & (place <= bins)
        cost = self._cost(place.floor().clamp(0, bins - 1).long())
        empty = -cost.new_tensor(_ALPHA).log()
        return torch.where(inside, cost, empty).mean(dim=1)

    def soft(self, values: Tensor) -> Tensor:
        """A stand-in (N,) with a gradient: costs between the middles of bins are interpolated.

        Outside of the range it grows with the distance, so that the way back is known.
        """
        bins = self.cost.shape[1]
        place = (values - self.low) / self.width - 0.5
        inside = place.clamp(0, bins - 1)
        left = inside.detach().floor().clamp(0, bins - 2).long()
        share = inside - left
        cost = (1 - share) * self._cost(left) + share * self._cost(left + 1)
        return (cost + (place - inside).abs()).mean(dim=1)

    def _cost(self, index: Tensor) -> Tensor:
        return self.cost.expand(index.shape[0], -1, -1).gather(2, index.unsqueeze(2)).squeeze(2)

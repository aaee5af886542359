"""What an attack maximises, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Attacked", "Objective", "per_sample", "value_and_gradient"]

Objective = Callable[[Tensor], Tensor]
"""Maps inputs (N, ...) to values (N,), each sample's a function of that sample alone."""


@dataclass(frozen=True)
class Attacked:
    """The outcome of an attack: inputs shaped like the originals, and their values (N,)."""

    images: Tensor
    values: Tensor

    @classmethod
    def of(cls, objective: Objective, images: Tensor) -> Attacked:
        """Inputs (N, ...) with their values, computed without a gradient."""
        with torch.no_grad():
            return cls(images, objective(images))

    def beaten(self, values: Tensor) -> Tensor:
        """Which samples (N,) are exceeded by `values` (N,), strictly.

        NaN never exceeds anything, and is exceeded by every number.
        """
        return ~(values <= self.values) & ~values.isnan()

    def better(self, other: Attacked) -> Attacked:
        """For each sample the one with the larger value, this one where they are equal."""
        wins = self.beaten(other.values)
        images = torch.where(per_sample(wins, self.images), other.images, self.images)
        return Attacked(images, torch.where(wins, other.values, self.values))


def value_and_gradient(objective: Objective, images: Tensor) -> tuple[Tensor, Tensor]:
    """Values (N,) of inputs (N, ...) and each value's gradient with respect to its own input."""
    inputs = images.detach().requires_grad_(True)
    with torch.enable_grad():
        values = objective(inputs)
        (gradient,) = torch.autograd.grad(values.sum(), inputs)
    return values.detach(), gradient


def per_sample(numbers: Tensor, images: Tensor) -> Tensor:
    """Numbers (N,) in a shape (N, 1, ...) that broadcasts against inputs (N, ...)."""
    return numbers.reshape(-1, *(1,) * (images.ndim - 1))

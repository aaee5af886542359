"""What an attack maximises, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Attacked", "Objective", "PerSample", "per_sample", "value_and_gradient"]

Objective = Callable[[Tensor], Tensor]
"""Maps inputs (N, ...) to values (N,), each sample's a function of that sample alone."""


@dataclass(frozen=True)
class PerSample:
    """An objective that knows something of each sample, and so must be told which are left.

    Attributes:
        function: Maps inputs (N, ...) and each of `known` to values (N,).
        known: Tensors (N, ...) with one row for each sample.
    """

    function: Callable[..., Tensor]
    known: tuple[Tensor, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Values (N,) of inputs (N, ...)."""
        values: Tensor = self.function(images, *self.known)
        return values

    def only(self, rows: Tensor) -> PerSample:
        """The objective of some of the samples, given by their rows."""
        return PerSample(self.function, tuple(item[rows] for item in self.known))

    def then(self, outer: Callable[[Tensor], Tensor]) -> PerSample:
        """The objective with a function applied to its values."""
        return PerSample(lambda images, *known: outer(self.function(images, *known)), self.known)


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

    def only(self, rows: Tensor) -> Attacked:
        """The outcome of some of the samples, given by their rows."""
        return Attacked(self.images[rows], self.values[rows])

    def beaten(self, values: Tensor, enough: float | Tensor | None = None) -> Tensor:
        """Which samples (N,) are exceeded by `values` (N,), strictly.

        NaN never exceeds anything, and is exceeded by every number. A sample whose value exceeds
        `enough` is beaten by nothing.
        """
        beaten = ~(values <= self.values) & ~values.isnan()
        return beaten if enough is None else beaten & ~(self.values > enough)

    def better(self, other: Attacked, enough: float | Tensor | None = None) -> Attacked:
        """For each sample the one with the larger value, this one where it is not `beaten`."""
        wins = self.beaten(other.values, enough)
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

"""The set of inputs an attacker may choose from: a ball around each image, within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from atd.attacks.objective import per_sample

__all__ = ["Ball", "Norm"]

Norm = Literal["linf", "l2"]


@dataclass(frozen=True, eq=False)
class Ball:
    """A ball around each image, intersected with the inputs' valid range.

    Attributes:
        images: Centres (N, ...), float32, within `bounds`.
        epsilon: Radius, in the inputs' units.
        norm: `linf`, the largest change of any element; `l2`, the Euclidean length.
        bounds: Valid range of the inputs; None where there is none (features).
    """

    images: Tensor
    epsilon: float
    norm: Norm = "linf"
    bounds: tuple[float, float] | None = (0.0, 1.0)

    @cached_property
    def _limits(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of each element in the L-infinity ball."""
        lower, upper = self.images - self.epsilon, self.images + self.epsilon
        if self.bounds is not None:
            lower, upper = lower.clamp_min(self.bounds[0]), upper.clamp_max(self.bounds[1])
        return lower, upper

    def only(self, rows: Tensor) -> Ball:
        """The balls around some of the images, given by their rows."""
        return Ball(self.images[rows], self.epsilon, self.norm, self.bounds)

    def project(self, moved: Tensor) -> Tensor:
        """Inputs (N, ...) brought into the ball and within bounds.

        For `linf` this is the nearest such point. For `l2` the difference from the image is
        shortened first and clamped to bounds then, which keeps it in the ball: clamping moves
        no element away from an image that itself lies within bounds.
        """
        if self.norm == "linf":
            lower, upper = self._limits
            return torch.minimum(torch.maximum(moved, lower), upper)
        change = moved - self.images
        factor = (self.epsilon / _positive(_length(change))).clamp_max(1.0)
        moved = self.images + per_sample(factor, change) * change
        return moved if self.bounds is None else moved.clamp(*self.bounds)

    def ascent(self, gradient: Tensor) -> Tensor:
        """The step (N, ...) of length one that follows the gradient (N, ...) most steeply.

        It is the sign for `linf` and the normalised gradient for `l2`. A zero gradient gives a
        zero step, and so does an element that is NaN; infinite ones count by their sign for
        `linf` and as zero for `l2`.
        """
        if self.norm == "linf":
            return gradient.sign()
        finite = gradient.nan_to_num(0.0, 0.0, 0.0)
        # The squares of very small or large gradients leave the range of float32.
        largest = finite.flatten(1).abs().amax(1)
        scaled = finite / per_sample(_positive(largest), finite)
        return scaled / per_sample(_positive(_length(scaled)), scaled)

    def start(self, noise: Tensor | None) -> Tensor:
        """The point of the ball (N, ...) that noise (N, ...) in [-1, 1] stands for.

        For `l2` the noise is divided by the square root of the number of elements, so that its
        length is at most one. None stands for the images themselves.
        """
        if noise is None:
            return self.project(self.images)
        scale = self.epsilon
        if self.norm == "l2":
            scale = self.epsilon / self.images[0].numel() ** 0.5
        return self.project(self.images + scale * noise)

    def distance(self, moved: Tensor) -> Tensor:
        """Distances (N,) of inputs (N, ...) from their images, in the ball's norm."""
        change = moved - self.images
        return change.flatten(1).abs().amax(1) if self.norm == "linf" else _length(change)


def _length(change: Tensor) -> Tensor:
    return torch.linalg.vector_norm(change.flatten(1), dim=1)


def _positive(lengths: Tensor) -> Tensor:
    """Lengths by which zero can be divided."""
    return lengths.clamp_min(torch.finfo(lengths.dtype).tiny)

"""Backward pass differentiable approximation: gradients for what has none."""

from __future__ import annotations

from torch import Tensor

from atd.attacks.objective import Objective

__all__ = ["straight_through"]


def straight_through(forward: Objective, surrogate: Objective) -> Objective:
    """The values of one objective with the gradient of another (Athalye et al., 2018).

    For models that round, quantise or take gradients of their own: the surrogate is the same
    model with that step left out or smoothed (arXiv:1802.00420, section 4.1).

    Args:
        forward: Maps inputs (N, ...) to values (N,); need not be differentiable.
        surrogate: Maps the same inputs to values (N,), finite and differentiable.

    Returns:
        An objective whose values are exactly those of `forward`.
    """

    def combined(images: Tensor) -> Tensor:
        slope = surrogate(images)
        return forward(images.detach()).detach() + (slope - slope.detach())

    return combined

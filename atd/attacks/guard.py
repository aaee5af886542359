"""Protection of an attack from gradients that are not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["finite_gradient"]


def finite_gradient(images: Tensor) -> Tensor:
    """The same values; in the backward pass, gradients that are NaN or infinite become zero.

    A square root at zero or an overflow makes one element's gradient infinite, and with it
    every gradient further back that adds it up. Applied to the input of such a step, this stops
    it there; applied to the images, it spares the elements that are finite.

    Args:
        images: A tensor of any shape, usually the input or an intermediate feature.

    Returns:
        A view of the tensor.
    """
    guarded: Tensor = _FiniteGradient.apply(images)
    return guarded


class _FiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].nan_to_num(0.0, 0.0, 0.0)

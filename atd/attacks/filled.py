"""Batches filled up, so that an image's value does not depend on how many others there are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["filled"]

_MULTIPLE = 8
"""On CPUs the kernels of torch treat images in blocks of up to so many, and sum in another order in
a block that is not full."""


def filled(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function of images, which is only called with full blocks of eight.

    A network on a CPU then gives an image the same value and gradient, bit for bit, in a batch of
    any size. Libraries for GPUs choose their algorithms by the size of a batch, so there it may
    still be a matter of rounding.

    Args:
        function: Maps images (N, C, H, W) to a value (N, ...) for each.

    Returns:
        A function of images (N, C, H, W) that gives `function` copies of the last one, without a
        gradient, and drops what it says of them.
    """

    def call(images: Tensor) -> Tensor:
        lacking = -len(images) % _MULTIPLE
        if not lacking:
            return function(images)
        more = images[-1:].detach().expand(lacking, *images.shape[1:])
        return function(torch.cat([images, more]))[: len(images)]

    return call

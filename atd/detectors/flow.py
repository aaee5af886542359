"""A normalizing flow of affine coupling layers, whose size only its fit knows."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atd.errors import UserError

__all__ = ["Flow", "flow_loss", "require_zuko"]

_STEEPEST = 2.0
"""Largest logarithm of a layer's scale; the released code has it too."""


class Flow(nn.Module):
    """Maps vectors to what looks normally distributed, by zuko's coupling layers.

    A layer keeps a random half of the dimensions, and scales and shifts the others by what a
    network of one hidden layer makes of the kept half (RealNVP; Dinh et al., 2017,
    arXiv:1605.08803). Scales and hidden units are bounded, so that what lies far outside stays
    finite through 16 layers. Buffers have no size before `reset`.
    """

    order: Tensor
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.zeros(0, 0, dtype=torch.int64))
        for name, dimensions in (("inner", 3), ("inner_bias", 2), ("outer", 3), ("outer_bias", 2)):
            self.register_buffer(name, torch.zeros([0] * dimensions))

    def reset(self, size: int, *, layers: int, hidden: int, seed: int) -> None:
        """Draws fresh weights for vectors (N, size); each layer changes nothing at first."""
        generator = torch.Generator().manual_seed(seed)
        kept, moved, device = size // 2, size - size // 2, self.inner.device
        order = [torch.randperm(size, generator=generator) for _ in range(layers)]
        bound = 1 / math.sqrt(kept)
        drawn = torch.rand(layers, hidden, kept + 1, generator=generator) * 2 * bound - bound
        self.order = torch.stack(order).to(device)
        self.inner = drawn[..., :kept].contiguous().to(device)
        self.inner_bias = drawn[..., kept].contiguous().to(device)
        self.outer = torch.zeros(layers, 2 * moved, hidden, device=device)
        self.outer_bias = torch.zeros(layers, 2 * moved, device=device)

    def weights(self) -> dict[str, Tensor]:
        """What training changes, by name."""
        return {name: value for name, value in self.named_buffers() if name != "order"}

    def forward(self, values: Tensor, weights: dict[str, Tensor] | None = None) -> Any:
        """Transforms vectors.

        Args:
            values: Vectors (N, D).
            weights: In place of its own ones, see `weights`.

        Returns:
            The transformed vectors (N, D) and the logarithms (N,) of the determinants of the
            Jacobians.
        """
        layers = self._layers(weights or self.weights())
        return layers.call_and_ladj(values)

    def _layers(self, weights: dict[str, Tensor]) -> Any:
        from zuko import transforms

        kept = self.inner.shape[2]

        class Coupling(transforms.CouplingTransform):  # type: ignore[misc]
            """Zuko's, with the halves as they are stored in place of a mask of them."""

            def __init__(self, number: int) -> None:
                transforms.Transform.__init__(self)
                self.meta = lambda half: _affine(half, *(w[number] for w in weights.values()))
                self.idx_a, self.idx_b = order[number, :kept], order[number, kept:]

            def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
                # Zuko's DependentTransform cannot be exported for a batch of none.
                y, ladj = super().call_and_ladj(x)
                return y, ladj.sum(dim=-1)

        def _affine(half: Tensor, *of: Tensor) -> Any:
            inner, inner_bias, outer, outer_bias = of
            hidden = functional.linear(half, inner, inner_bias).tanh()
            shift, scale = functional.linear(hidden, outer, outer_bias).chunk(2, dim=-1)
            return transforms.MonotonicAffineTransform(shift, scale, math.exp(-_STEEPEST))

        order = self.order
        return transforms.ComposedTransform(*(Coupling(i) for i in range(len(order))))


def flow_loss(transformed: Tensor, log_determinant: Tensor) -> Tensor:
    """Negative log likelihoods (N,) per dimension, without their constant: the released code's.

    Args:
        transformed: What the flow makes of the vectors, (N, D).
        log_determinant: (N,).
    """
    return (transformed.square().sum(1) / 2 - log_determinant) / transformed.shape[1]


def require_zuko() -> None:
    """Refuses to go on where the library of flows is missing.

    Raises:
        UserError: zuko is not installed.
    """
    if importlib.util.find_spec("zuko") is None:
        raise UserError("detector.kind=daain needs the zuko library: pip install zuko")

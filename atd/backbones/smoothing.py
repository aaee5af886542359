"""Networks with smooth corners: their gradients change with the input, as a second gradient needs.

The gradient of a network of rectifiers is constant between its corners, so that whatever is read
off that gradient has the gradient zero almost everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["SmoothCorners", "makes_zeros"]

_RELU = {
    functional.relu,
    torch.relu,
    torch.relu_,
    Tensor.relu,
    Tensor.relu_,
}
_LEAKY = {functional.leaky_relu, functional.leaky_relu_}
_CLIPPED = {functional.hardtanh, functional.hardtanh_, functional.relu6}
_SMOOTH = (
    nn.SiLU,
    nn.GELU,
    nn.Mish,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Softplus,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.PReLU,
)


class SmoothCorners(TorchFunctionMode):
    """Within it, in this thread, rectifiers of any network are softplus functions.

    relu(x) becomes log(1 + exp(b x)) / b; leaky and clipped rectifiers are sums of such.

    Args:
        sharpness: The number b; the larger, the nearer to the rectifier.

    Example:
        >>> x = torch.tensor([-1.0, 1.0])
        >>> with SmoothCorners(10):
        ...     torch.relu(x)
        tensor([4.5399e-06, 1.0000e+00])
    """

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        given: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        """Called in place of every function of torch."""
        named = named or {}
        if function in _RELU:
            return self._corner(given[0] if given else named["input"])
        if function in _LEAKY:
            return self._leaky(*given, **named)
        if function in _CLIPPED:
            ends = {"min_val": 0.0, "max_val": 6.0} if function is functional.relu6 else {}
            return self._clipped(*given, **{**named, **ends})
        return function(*given, **named)

    def _corner(self, x: Tensor) -> Tensor:
        return functional.softplus(x, beta=self.sharpness)

    def _leaky(self, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
        return negative_slope * input + (1 - negative_slope) * self._corner(input)

    def _clipped(
        self, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> Tensor:
        return min_val + self._corner(input - min_val) - self._corner(input - max_val)


def makes_zeros(network: nn.Module) -> bool:
    """Whether inner gradients of a network can be exactly zero: it has no smooth activation."""
    return not any(isinstance(part, _SMOOTH) for part in network.modules())

"""What every pass through a network needs: a frozen state, full blocks, floats, precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["as_float", "at_least_float32", "computes_in_bfloat16", "filled", "frozen"]

_MULTIPLE = 8
"""On CPUs the kernels of torch treat images in blocks of up to so many, and sum in another order in
a block that is not full."""


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Puts modules in evaluation mode without parameter gradients, and back afterwards.

    An attack needs the gradient with respect to its input only. Computing the parameters'
    gradients as well costs time in every step and, with `.backward()`, leaves them behind.

    Args:
        modules: The modules; each submodule's training flag and each parameter's
            `requires_grad` are restored on exit, also after an exception.
    """
    flags = [(part, part.training) for module in modules for part in module.modules()]
    parameters = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    try:
        for module in modules:
            module.eval()
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for part, training in flags:
            part.training = training
        for parameter, required in parameters:
            parameter.requires_grad_(required)


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


def as_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1], whether they came as uint8 or float."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def at_least_float32(values: Tensor) -> Tensor:
    """The values as float32; float64, for checks of an evaluation or of equality, stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))

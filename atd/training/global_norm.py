"""Batch normalisation by the statistics of the global batch, for training by several processes.

torch's SyncBatchNorm does the same on CUDA only and replaces the modules. Here the modules stay
as they are, timm's variants included: inside the context their call of `F.batch_norm` gets
statistics over all processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from atd.models.precision import at_least_float32
from atd.training.stopwatch import exchanging

__all__ = ["global_batch_statistics", "normalises_over_batch"]


def normalises_over_batch(network: nn.Module) -> bool:
    """Whether training a network on parts of a batch differs from training it on the batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


def global_batch_statistics(processes: int) -> contextlib.AbstractContextManager[Any]:
    """Within it, batch normalisation in training mode sees the batch of all processes.

    Every process must make the same forward and backward passes, on parts of equal size. Then
    gradients of losses that are means over a process's part, averaged over processes, are those
    of one process with the whole batch, and so are the running statistics. Evaluation mode is
    left alone.

    Args:
        processes: Number of processes; with one the context does nothing.

    Returns:
        The context. Backward passes may run outside of it.
    """
    return _GlobalStatistics() if processes > 1 else contextlib.nullcontext()


class _GlobalStatistics(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    values: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` with statistics over processes; Ioffe & Szegedy 2015, algorithm 1."""
    if not training:
        return F.batch_norm(
            values, running_mean, running_var, weight, bias, training, momentum, eps
        )
    axes = [axis for axis in range(values.ndim) if axis != 1]
    exact = at_least_float32(values)
    mean = _mean_over_processes(exact.mean(axes, keepdim=True))
    centred = exact - mean
    variance = _mean_over_processes(centred.square().mean(axes, keepdim=True))
    if running_mean is not None and running_var is not None:
        count = distributed.get_world_size() * values.numel() // values.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean.flatten().to(running_mean), momentum)
            unbiased = variance.flatten() * count / (count - 1)
            running_var.lerp_(unbiased.to(running_var), momentum)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight.view_as(mean)
    normalised = centred * scale
    if bias is not None:
        normalised = normalised + bias.view_as(mean)
    return normalised.to(values.dtype)


class _MeanOverProcesses(torch.autograd.Function):
    """The mean over processes of values that each holds.

    Every process differentiates the sum of all losses by its own values. The other losses depend
    on them as well, so the gradient is the mean of all processes' gradients.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _averaged(part)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _averaged(gradient)


def _mean_over_processes(part: Tensor) -> Tensor:
    mean: Tensor = _MeanOverProcesses.apply(part)
    return mean


def _averaged(values: Tensor) -> Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    with exchanging:
        distributed.all_reduce(total)
    return total / distributed.get_world_size()

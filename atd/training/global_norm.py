"""Batch normalisation by the statistics of a batch that several processes share.

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
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from atd.inference import at_least_float32
from atd.training.stopwatch import exchanging

__all__ = ["global_batch_statistics", "normalises_over_batch"]


def normalises_over_batch(network: nn.Module) -> bool:
    """Whether training a network on parts of a batch differs from training it on the batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


def global_batch_statistics(
    processes: int, groups: int = 1, among: Any = None
) -> contextlib.AbstractContextManager[Any]:
    """Within it, batch normalisation in training mode sees the batch of several processes.

    Every process must make the same forward and backward passes, on parts of equal size. Then
    gradients of losses that are means over a process's part, averaged over processes, are those
    of one process with the whole batch, and so are the running statistics. Evaluation mode is
    left alone.

    Args:
        processes: Number of processes that share a batch; with one the context does nothing.
        groups: Of how many batches of equal size, one behind the other, an input consists. Each
            is normalised by its own statistics and moves the running ones, in order, as if it
            had been passed alone; only `num_batches_tracked` counts them as one. All groups
            together need as few exchanges as one.
        among: The process group of those that share a batch; None is all processes.

    Returns:
        The context. Backward passes may run outside of it.
    """
    return _GlobalStatistics(groups, among) if processes > 1 else contextlib.nullcontext()


class _GlobalStatistics(TorchFunctionMode):
    def __init__(self, groups: int, among: Any) -> None:
        super().__init__()
        self.groups, self.among = groups, among

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(self.groups, self.among, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    groups: int,
    among: Any,
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
    exact = at_least_float32(values)
    normalised, means, variances = _GlobalNorm.apply(exact, weight, bias, eps, groups, among)
    if running_mean is not None and running_var is not None:
        count = distributed.get_world_size(among) * values.numel() // values.shape[1] // groups
        unbiased = variances * (count / (count - 1))
        for mean, variance in zip(means, unbiased, strict=True):
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(variance, alpha=momentum)
    out: Tensor = normalised.to(values.dtype)
    return out


class _GlobalNorm(torch.autograd.Function):
    """Normalisation by the statistics of all processes: one exchange forward, one backward.

    torch's own kernels do the work on the part, and what the other parts change is added.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        groups: int,
        among: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        parts = values.chunk(groups)
        of_parts = [torch.stack(torch.batch_norm_update_stats(x, None, None, 0.0)) for x in parts]
        means, variances = _of_all(torch.stack(of_parts), among).unbind(2)
        mean = means.mean(0)
        # Means of squares would cancel; the spread of the parts' means does not.
        variance = (variances + (means - mean).square()).mean(0)
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.eps, ctx.among = eps, among
        ctx.mark_non_differentiable(mean, variance)
        normalised = [
            F.batch_norm(x, m, v, weight, bias, False, 0.0, eps)
            for x, m, v in zip(parts, mean, variance, strict=True)
        ]
        return torch.cat(normalised), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Ioffe & Szegedy 2015, section 3: the statistics depend on every value of the batch.

        Every process differentiates the sum of all losses by its own values, so the sums over
        the batch in that formula are over all processes.
        """
        values, weight, mean, variance = ctx.saved_tensors
        groups, eps = len(mean), ctx.eps
        parts, scale = values.chunk(groups), torch.rsqrt(variance + eps)
        own = [
            torch.ops.aten.native_batch_norm_backward(
                g, x, weight, None, None, m, s, True, eps, [True, True, True]
            )
            for g, x, m, s in zip(gradient.chunk(groups), parts, mean, scale, strict=True)
        ]
        sums = torch.stack([torch.stack(by_parameters) for _, *by_parameters in own])
        # The kernel has taken off the part's mean of the sums; the batch's mean is wanted.
        lacking = (sums - _of_all(sums, ctx.among).mean(0)) * scale[:, None]
        lacking *= values.shape[1] / parts[0].numel()
        if weight is not None:
            lacking *= weight
        by_values = torch.cat(
            [
                by_part.add_(F.batch_norm(x, m, v, gain, shift, False, 0.0, eps))
                for (by_part, *_), x, m, v, (gain, shift) in zip(
                    own, parts, mean, variance, lacking, strict=True
                )
            ]
        )
        found = zip((by_values, *sums.sum(0)), ctx.needs_input_grad, strict=False)
        return *(given if needed else None for given, needed in found), None, None, None


def _of_all(part: Tensor, among: Any) -> Tensor:
    """What each process holds, (processes, ...), on every process."""
    parts = part.new_empty(distributed.get_world_size(among), *part.shape)
    with exchanging:
        distributed.all_gather(list(parts), part.contiguous(), group=among)
    return parts

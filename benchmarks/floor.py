"""The floor under a step: its operations and bytes, and what the machine can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import synchronise

__all__ = ["Work", "ceilings", "count"]

_SECONDS = 0.5
"""How long a ceiling is measured."""


@dataclass(frozen=True)
class Work:
    """What a step does: floating-point operations of products and convolutions, bytes moved."""

    flops: float
    bytes: float


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of every operation's inputs and outputs, as if nothing stayed in cache.

    Views move nothing. A fused kernel moves less than its operations one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view:
            moved = tree_leaves((args, kwargs, result))
            self.total += sum(t.numel() * t.element_size() for t in moved if isinstance(t, Tensor))
        return result


def count(step: Callable[[], object]) -> Work:
    """Runs a step once and counts; the step must run eagerly, a compiled graph hides its parts."""
    with _Bytes() as moved, FlopCounterMode(display=False) as counted:
        step()
    return Work(float(counted.get_total_flops()), float(moved.total))


def ceilings(device: str) -> dict[str, float]:
    """What this machine reaches at best, measured now.

    A product is computed as one and as a convolution by one pixel, since these may go through
    different libraries, of which now one and now the other is faster; the faster one counts.

    Args:
        device: `cpu` or `cuda`.

    Returns:
        Operations per second of a large matrix product in `float32`, `bfloat16` and, on CUDA,
        `tf32`; bytes per second read and written by a large `copy`.
    """
    size = 8192 if device == "cuda" else 2048
    found = {
        "float32": _product(device, size, torch.float32),
        "bfloat16": _product(device, size, torch.bfloat16),
    }
    if device == "cuda":
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        found["tf32"] = _product(device, size, torch.float32)
        torch.backends.cuda.matmul.allow_tf32 = before
    source = torch.zeros(2**30 if device == "cuda" else 2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.numel() / _fastest(lambda: target.copy_(source), device)
    return found


def _product(device: str, size: int, kind: torch.dtype) -> float:
    one, other = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    image = one.view(1, size, size // 32, 32).contiguous(memory_format=torch.channels_last)
    kernel = other.view(size, size, 1, 1)
    ways = (lambda: one @ other, lambda: conv2d(image, kernel))
    return 2 * size**3 / min(_fastest(way, device) for way in ways)


def _fastest(run: Callable[[], object], device: str) -> float:
    """Least seconds of a run among those that fit into a short while."""
    run()
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until or best == float("inf"):
        synchronise(device)
        started = time.perf_counter()
        run()
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return best

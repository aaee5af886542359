"""Times sides against each other in one process, turn by turn."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

__all__ = ["Spread", "Step", "interleave", "peak_on_cuda", "ratios", "synchronise"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def record(self) -> dict[str, float]:
        """As plain numbers, for JSON."""
        return asdict(self)


def synchronise(device: str) -> None:
    """Waits for all work that was given to the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def interleave(
    sides: Mapping[str, Step],
    *,
    repeats: int,
    device: str,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every side, A, B, C, A, B, C, ..., so that a slow moment hits all alike.

    Args:
        sides: What is timed, by name.
        repeats: Timed rounds.
        device: `cpu` or `cuda`.
        warmup: Untimed rounds before.
        clock: What tells the seconds.

    Returns:
        `repeats` times for each side, in order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + repeats):
        for name, step in sides.items():
            synchronise(device)
            started = clock()
            step()
            synchronise(device)
            if turn >= warmup:
                seconds[name].append(clock() - started)
    return seconds


def ratios(base: Sequence[float], other: Sequence[float]) -> list[float]:
    """How many times faster `other` was in each round."""
    return [before / after for before, after in zip(base, other, strict=True)]


def peak_on_cuda(step: Step, resident: int) -> float:
    """Peak memory of a step in MiB: what its side holds, and what the step needs besides.

    Args:
        step: The step, run before.
        resident: Bytes that the side has held since it was built.
    """
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before + resident) / 2**20

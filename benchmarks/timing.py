"""Times sides against each other in one process, turn by turn, and measures their memory."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Spread", "interleave", "peak_in_child", "peak_on_cuda", "ratios", "synchronise"]

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
    sides: Mapping[str, Step], *, repeats: int, device: str, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of every side, A, B, C, A, B, C, ..., so that a slow moment hits all alike.

    Args:
        sides: What is timed, by name.
        repeats: Timed rounds.
        device: `cpu` or `cuda`.
        warmup: Untimed rounds before.

    Returns:
        `repeats` times for each side, in order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + repeats):
        for name, step in sides.items():
            synchronise(device)
            started = time.perf_counter()
            step()
            synchronise(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
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


def peak_in_child(
    build: Callable[..., Step], small: tuple[Any, ...], arguments: tuple[Any, ...]
) -> float:
    """Peak resident memory in MiB of a fresh process that builds a side and takes one step.

    What the process held after a step of a small side, which loads libraries and images, is
    subtracted.

    Args:
        build: A function of a module, so that the child can import it.
        small: Its arguments for the small side.
        arguments: Its arguments.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(_peak, torch.get_num_threads(), build, small, arguments).result()


def _peak(
    threads: int, build: Callable[..., Step], small: tuple[Any, ...], arguments: tuple[Any, ...]
) -> float:
    torch.set_num_threads(threads)
    build(*small)()
    before = _largest()
    build(*arguments)()
    return _largest() - before


def _largest() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # `ru_maxrss` would hold the parent's peak at first; this one starts with the process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

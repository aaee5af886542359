"""How many threads torch computes with: as many as the process has cores, or as the user says.

More threads than cores wait for one another in every operation. A container often grants a process
fewer cores than the machine has, by its affinity or by a quota of time, which torch does not see.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional as F

__all__ = ["available_cores", "crowding", "set_threads", "share_of_cores"]

_FASTER = 1.5
"""One thread that is so many times as fast as all of them is worth a line."""


def set_threads(threads: int = 0) -> int:
    """Sets the threads of torch's operations for this process.

    Args:
        threads: How many; 0 takes those that torch would take, but no more than the process has
            cores (shared with the other processes that a launcher has started on the machine),
            unless `OMP_NUM_THREADS` says otherwise.

    Returns:
        The threads that are set.
    """
    if threads == 0 and not os.environ.get("OMP_NUM_THREADS"):
        threads = min(torch.get_num_threads(), share_of_cores())
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def share_of_cores() -> int:
    """Whole cores for this process, at least one; ranks of one machine share its cores."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, math.floor(available_cores() / max(1, int(ranks) if ranks.isdecimal() else 1)))


def available_cores(root: Path = Path("/")) -> float:
    """Cores that this process may use, by its affinity and the quota of its control groups.

    Args:
        root: Where the file systems `proc` and `sys` are.

    Returns:
        A number above 0; a quota may grant parts of a core.
    """
    cores = float(os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    return min([cores, *_quotas(root)])


def _quotas(root: Path) -> list[float]:
    """Cores that the control groups grant, versions 1 and 2, those of their parents included."""
    found: list[float] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path may be that of the host, which is not to be seen.
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            found += _quota(folder)
            if folder == base:
                break
    return found


def _quota(folder: Path) -> list[float]:
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    if not quota:
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`, or no such file
        return []
    return [cores] if cores > 0 else []


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def crowding() -> str:
    """Says in a line where one thread is much faster than those that are set; empty elsewhere.

    On a machine whose cores are busy, threads wait for the slowest of them. A small convolution is
    timed with both numbers, for a fraction of a second; nothing of it stays.
    """
    threads = torch.get_num_threads()
    if threads == 1 or torch.cuda.is_available():
        return ""
    try:
        many = _seconds()
        torch.set_num_threads(1)
        one = _seconds()
    finally:
        torch.set_num_threads(threads)
    if many < _FASTER * one:
        return ""
    return (
        f"The machine is busy: one thread computes {many / one:.1f} times as fast as the {threads} "
        "in use. Stop and start again with run.threads=1 to go on so (results differ by rounding)"
    )


def _seconds() -> float:
    """The median of a few passes of a convolution forward and back, after a first one."""
    images = torch.ones(16, 16, 32, 32, requires_grad=True)
    weights = torch.ones(16, 16, 3, 3)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        torch.autograd.grad(F.conv2d(images, weights, padding=1).relu().sum(), images)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])

"""Where a result comes from: code, options, library versions, hardware, time."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from atd.config import Config, config_hash

__all__ = ["commit", "hardware", "provenance", "versions"]

_PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "scikit-learn", "timm")

_SOURCES = ("--", ":(top)*.py", ":(top)*.yaml")
"""Documents that a benchmark writes while it runs do not change its code."""


def provenance(config: Config | None, *, seed: int, seconds: float) -> dict[str, Any]:
    """The provenance block of a result.

    Args:
        config: The run's options, or None where there are none.
        seed: The seed that was used.
        seconds: Wall-clock time of what is described.

    Returns:
        `commit`, `versions`, `hardware`, `seed`, `config_sha256`, `seconds` and `date` (UTC).
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "seed": seed,
        "config_sha256": None if config is None else config_hash(config),
        "seconds": round(seconds, 1),
        "date": now.isoformat(timespec="seconds"),
    }


def commit(folder: Path | None = None) -> str | None:
    """Git commit of the code, `-dirty` where its tracked sources differ; None outside git."""
    folder = folder or Path(__file__).parent
    head = _git(folder, "rev-parse", "HEAD")
    if head is None or _git(folder, "ls-files", "--error-unmatch", ".") is None:
        # Installed inside somebody else's repository: that commit says nothing about this code.
        return None
    return f"{head}-dirty" if _git(folder, "status", "--porcelain", "-uno", *_SOURCES) else head


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that can change a number."""
    found = {"python": platform.python_version()}
    for package in ("atd", *_PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Processor cores and accelerators in one line."""
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        return f"CPU ({cores})"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()} (CPU {cores})"

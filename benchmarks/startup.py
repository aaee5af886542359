"""How long the commands take to answer, and how much of a run is spent outside its networks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atd.errors import UserError
from benchmarks.timing import Spread

__all__ = ["OUTSIDE_LIMIT", "STARTUP_LIMIT", "outside_share", "startup"]

STARTUP_LIMIT = 2.0
"""Seconds."""

OUTSIDE_LIMIT = 0.2
"""Share of the wall-clock time of the digits run."""

_COMMANDS = {
    "train.py --dry-run": ("atd.commands.train", "--dry-run"),
    "atd.score --help": ("atd.score", "--help"),
}


def startup(repeats: int) -> list[dict[str, Any]]:
    """Seconds from the start of the interpreter to its end, for commands that do nothing."""
    records = []
    for name, (module, option) in _COMMANDS.items():
        _run(["-m", module, option])
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            _run(["-m", module, option])
            seconds.append(time.perf_counter() - started)
        spread = Spread.of(seconds).record()
        records.append({"command": name, "seconds": spread, "limit": STARTUP_LIMIT})
    return records


def outside_share(overrides: Sequence[str]) -> dict[str, Any]:
    """Trains the digits from nothing and tells where its time went.

    Args:
        overrides: Options of the run.

    Returns:
        Seconds in all, those inside networks, the share outside, and its largest parts.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "share.json"
        options = [f"run.dir={Path(folder) / 'run'}", "run.device=cpu", *overrides]
        _run(["-m", "benchmarks.sampled", str(report), *options])
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return {**found, "limit": OUTSIDE_LIMIT}


def _run(arguments: Sequence[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"python {' '.join(arguments)} ended with {done.returncode}: {last}")

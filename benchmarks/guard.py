"""Notices when a training step has become slower: a small version, as a ratio to the published one.

    python -m benchmarks.guard --output tests/benchmarks/guard.json

records the ratio on one thread; `tests/benchmarks/test_guard.py` measures it again and fails when
more than a quarter of it is lost. A ratio of the processor's seconds of two steps that take turns
says the same on a fast and on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from atd.errors import run_command
from atd.files import write_text
from atd.provenance import provenance
from benchmarks.speed import Setting
from benchmarks.timing import Step, interleave, ratios
from benchmarks.train_step import build

__all__ = ["KEPT", "ratio", "small_steps"]

KEPT = 0.75
"""The share of the recorded ratio that must be left."""

_SETTING = Setting("cpu", batch=8, width=16, overrides=("atd.steps=3",))
_ROUNDS = 11


def small_steps() -> dict[str, Step]:
    """The published step and ours, in float32, ready to be timed."""
    return {
        "published": build("published style", _SETTING),
        "ours": build("ours, float32", _SETTING),
    }


def ratio(steps: dict[str, Step], *, enough: float = float("inf"), tries: int = 3) -> float:
    """How many times faster ours is: the median of rounds, the best of a few tries.

    What disturbs the machine makes one try worse; what slows the step down makes all worse.

    Args:
        steps: `published` and `ours`.
        enough: No further try once this is reached.
        tries: At most so many.
    """
    best = 0.0
    for _ in range(tries):
        seconds = interleave(
            steps, repeats=_ROUNDS, device="cpu", warmup=2, clock=time.process_time
        )
        best = max(best, statistics.median(ratios(seconds["published"], seconds["ours"])))
        if best >= enough:
            break
    return best


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    file: Path = options.parse_args().output
    torch.set_num_threads(1)
    started = time.monotonic()
    steps = small_steps()
    # The median, not the best: the guard should not ask for a lucky moment.
    found = statistics.median(ratio(steps, tries=1) for _ in range(5))
    record: dict[str, Any] = {"ratio": found, "kept": KEPT}
    record |= {"provenance": provenance(None, seed=0, seconds=time.monotonic() - started)}
    write_text(file, json.dumps(record, indent=1))
    print(json.dumps(record))


if __name__ == "__main__":
    main()

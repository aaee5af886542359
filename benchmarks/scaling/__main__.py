"""What two processes bring over one, what they cost, and a plan for many GPUs.

    python -m benchmarks.scaling --output docs/scaling.md

Start it on an idle machine with two cores: it takes both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch

from atd.config import load
from atd.errors import run_command
from atd.files import replacing
from atd.provenance import provenance
from atd.training.processes import Processes
from benchmarks.scaling.page import page
from benchmarks.scaling.plan import Assumptions, arithmetic, count
from benchmarks.scaling.single import decode_rate, startup, streaming_memory
from benchmarks.scaling.tasks import Work, WorkSize
from benchmarks.scaling.throughput import throughput
from benchmarks.timing import Spread

RECIPE = "configs/cifar10.yaml"


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured."""

    size: WorkSize
    batch: int
    rounds: int
    starts: int
    folders: tuple[int, ...]
    streamed: int
    planned: WorkSize


FULL = Effort(
    size=WorkSize(width=32, image_size=32, steps=10, ghost_batch=32, scoring_batch=32),
    batch=64,
    rounds=5,
    starts=3,
    folders=(1000, 4000, 16000, 64000),
    streamed=16000,
    planned=WorkSize(width=64, image_size=224, steps=10, classes=1000),
)
QUICK = Effort(
    size=WorkSize(width=4, image_size=8, steps=2, ghost_batch=2, scoring_batch=2),
    batch=4,
    rounds=1,
    starts=1,
    folders=(50, 100),
    streamed=128,
    planned=WorkSize(width=4, image_size=32, steps=2, classes=1000),
)


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--output", type=Path, default=Path("docs/scaling.md"))
    parser.add_argument("--quick", action="store_true", help="tiny work, to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    since = time.monotonic()
    found = measure(QUICK if arguments.quick else FULL)
    seconds = time.monotonic() - since
    found["provenance"] = provenance(load(RECIPE), seed=0, seconds=seconds)
    for file, text in (
        (arguments.output, page(found)),
        (arguments.output.with_suffix(".json"), json.dumps(found, indent=1) + "\n"),
    ):
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


def measure(effort: Effort) -> dict[str, Any]:
    """All that the page tells, as plain numbers."""
    # Alternately, as everything else: a slow moment of the machine hits both alike.
    starts: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(effort.starts):
        for processes, seconds in starts.items():
            seconds.append(startup(processes))
    found: dict[str, Any] = {
        "effort": dataclasses.asdict(effort),
        "startup": {str(key): Spread.of(seconds).record() for key, seconds in starts.items()},
        "streaming": [streaming_memory(count, effort.streamed) for count in effort.folders],
        "throughput": throughput(effort.size, effort.batch, effort.rounds),
    }
    found["plan"] = _plan(effort, found["throughput"]["hat"]["exchanges"]["calls"])
    return found


def _plan(effort: Effort, exchanges: int) -> dict[str, Any]:
    """The plan, with exchanges of batch statistics as they were counted in two processes."""
    work = Work(Processes("cpu"), effort.size, effort.batch)
    gradients = len(work.trained("hat"))
    per_norm = (exchanges - gradients) // work.norm_passes("hat")
    names = ("helper", "hat", "atd", "evaluation")
    counts = {name: count(name, effort.planned, per_norm) for name in names}
    given, rate, recipe = Assumptions(), decode_rate(2.0), load(RECIPE)
    cautious = dataclasses.replace(given, share=given.cautious_share)
    return {
        "recipe": RECIPE,
        "epochs": {
            "helper": recipe.pretrain.helper_epochs,
            "hat": recipe.pretrain.epochs,
            "atd": recipe.atd.epochs,
        },
        "assumptions": dataclasses.asdict(given),
        "decode_rate": rate,
        "exchanges_per_norm": per_norm,
        "counts": {name: dataclasses.asdict(counted) for name, counted in counts.items()},
        "rows": [
            row
            for assumed in (given, cautious)
            for row in arithmetic(counts, recipe, rate, assumed)
        ],
    }


if __name__ == "__main__":
    main()

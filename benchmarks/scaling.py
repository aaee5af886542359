"""What two processes bring over one on a machine with two cores.

    python -m benchmarks.scaling --output docs/scaling.md

Start it on an idle machine: it takes both cores. The trainings are those of users, started by
torchrun with one thread a process, and their own records tell how fast they were.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from atd.config import load
from atd.errors import UserError, run_command
from atd.files import write_text
from atd.provenance import provenance
from benchmarks.scaling_page import NAMES, page
from benchmarks.timing import Spread, ratios
from benchmarks.workbench import PLAIN

__all__ = ["images_per_second", "measure", "start"]

ROOT = Path(__file__).parents[1]
_CONFIG = "configs/cifar10.yaml"
_STEPS = 8
_SIDES = ("one", "two", "separate")
_KINDS = {
    "hat_ghosts": ("pretrain", ("pretrain.ghost_batch=32",)),
    "hat": ("pretrain", ("pretrain.ghost_batch=0",)),
    "atd": ("atd", ()),
}
"""Stage and options of each kind of training."""

FULL: dict[str, Any] = {
    "size": {"width": 32, "image_size": 32, "steps": 10, "ghost_batch": 32, "scoring_batch": 32},
    "batch": 64,
    "rounds": 3,
}
QUICK: dict[str, Any] = {
    "size": {"width": 4, "image_size": 8, "steps": 1, "ghost_batch": 32, "scoring_batch": 32},
    "batch": 64,
    "rounds": 1,
}


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/scaling.md"))
    parser.add_argument("--quick", action="store_true", help="tiny work, to see that it runs")
    arguments = parser.parse_args()
    since = time.monotonic()
    found = measure(QUICK if arguments.quick else FULL)
    found["provenance"] = provenance(load(_CONFIG), seed=0, seconds=time.monotonic() - since)
    write_text(arguments.output, page(found))
    write_text(arguments.output.with_suffix(".json"), json.dumps(found, indent=1))
    print(arguments.output.read_text(encoding="utf-8"))


def measure(effort: dict[str, Any]) -> dict[str, Any]:
    """All that the page tells, as plain numbers.

    Two separate jobs of one process, each with half of the batch and without any exchange, run at
    the same time: what they reach is all that the machine's two cores have to give.
    """
    turns = [{side: _side(side, effort) for side in _SIDES} for _ in range(effort["rounds"])]
    rates = {name: _summary([_of(turn, name) for turn in turns]) for name in NAMES}
    return {"effort": effort, "throughput": rates}


Found = dict[str, dict[str, float]]


def _of(turn: dict[str, Found], name: str) -> dict[str, dict[str, float]]:
    return {side: found[name] for side, found in turn.items()}


def _summary(turns: Sequence[Found]) -> dict[str, Any]:
    rates = {side: [turn[side]["rate"] for turn in turns] for side in _SIDES}
    return {
        **{side: Spread.of(values).record() for side, values in rates.items()},
        # Rates, not times: the later one is the dividend.
        "speedup": Spread.of(ratios(rates["two"], rates["one"])).record(),
        "of_separate": Spread.of(ratios(rates["two"], rates["separate"])).record(),
        "exchanges": {"share": statistics.median(turn["two"]["share"] for turn in turns)},
    }


def _side(side: str, effort: dict[str, Any]) -> Found:
    """Rate and share of exchanges of each kind of work, by one side's processes."""
    jobs = 2 if side == "separate" else 1
    batch, found = effort["batch"] // jobs, {}
    for kinds in (("hat_ghosts", "atd"), ("hat",)):
        with ExitStack() as stack:
            folders = [
                Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(jobs)
            ]
            options = _options(effort["size"], batch, _KINDS[kinds[0]][1])
            running = [start(folder, options, 2 if side == "two" else 1) for folder in folders]
            for process in running:
                if process.wait():
                    raise UserError(f"{' '.join(map(str, process.args))} failed; see above")
            for kind in kinds:
                each = [images_per_second(folder, _KINDS[kind][0]) for folder in folders]
                found[kind] = _together(each)
            if kinds[0] == "hat_ghosts":
                found["evaluation"] = _together([_evaluated(folder) for folder in folders])
    return found


def _together(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {"rate": sum(one["rate"] for one in each), "share": max(one["share"] for one in each)}


def _options(size: dict[str, int], batch: int, more: Sequence[str]) -> list[str]:
    limit = batch * (_STEPS + 1)
    return [
        *PLAIN,
        f"backbone.width={size['width']}",
        f"data.image_size={size['image_size']}",
        f"data.id_limit={limit}",
        f"data.outlier_limit={limit}",
        f"data.ood_limit={batch}",
        f"evaluate.limit={batch}",
        f"evaluate.batch_size={size['scoring_batch']}",
        f"evaluate.steps={size['steps']}",
        *(f"{stage}.batch_size={batch}" for stage in ("pretrain", "atd")),
        *(f"{stage}.steps={size['steps']}" for stage in ("pretrain", "atd")),
        *(f"{stage}=1" for stage in ("pretrain.epochs", "pretrain.helper_epochs", "atd.epochs")),
        *more,
    ]


def start(folder: Path, options: Sequence[str], processes: int) -> subprocess.Popen[bytes]:
    """Starts a whole run by torchrun, with one thread a process.

    Args:
        folder: Its run folder.
        options: Overrides of `configs/cifar10.yaml`.
        processes: How many.
    """
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = ["atd.commands.train", "--config", _CONFIG, f"run.dir={folder / 'run'}", *options]
    return subprocess.Popen(
        [sys.executable, *launch, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def images_per_second(folder: Path, stage: str) -> dict[str, float]:
    """Rate of a stage and the share of exchanges in its steps, by the run's own `stats.jsonl`."""
    text = (folder / "run" / "stats.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in lines if line["stage"] == stage and "images_per_second" in line]
    # The first steps warm up.
    steps = steps[2:] or steps
    rate = statistics.median(line["images_per_second"] for line in steps)
    batch = steps[0]["images"] / steps[0]["step"]
    waits = statistics.median(line["seconds_communication"] for line in steps)
    return {"rate": rate, "share": waits * rate / batch}


def _evaluated(folder: Path) -> dict[str, float]:
    file = folder / "run" / "report" / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    images = results["id"]["images"] + sum(item["images"] for item in results["datasets"].values())
    return {"rate": images / results["provenance"]["seconds"], "share": 0.0}


if __name__ == "__main__":
    main()

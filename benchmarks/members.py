"""How much each attack of a suite finds on a detector, alone and together, and what it takes.

python -m benchmarks.members checkpoints/digits/detector --output docs/members.md
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from atd.attacks.suite import member
from atd.config import Config, restore
from atd.data.splits import DataSplits, load_splits
from atd.detectors.base import Detector
from atd.errors import run_command
from atd.evaluation.rounds import targets
from atd.evaluation.settings import Settings, settings_from
from atd.files import write_text
from atd.judging import limited
from atd.metrics import auroc
from atd.provenance import provenance
from atd.reporting.wording import fraction_255

MEMBERS = (
    member("noise", 1, 10),
    member("fgsm"),
    member("pgd", 10),
    member("pgd", 100),
    member("pgd", 100, 5),
    member("pgd", 1000),
    member("momentum", 100),
    member("apgd", 40),
    member("apgd", 100),
    member("apgd", 100, 3),
    member("apgd", 100, 5),
    member("features", 100),
    member("square", 500),
    member("square", 1000),
    member("square", 2000),
)


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="the Markdown table")
    parser.add_argument("--limit", type=int, default=60, help="images of each set")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    detector = Detector.from_pretrained(arguments.detector)
    origin = str(arguments.detector / "config.json")
    config = restore(detector.config.training, origin, arguments.overrides)
    splits = limited(load_splits(config), arguments.limit, config.run.seed)
    settings = settings_from(config, progress=False)
    started = time.monotonic()
    rows = _measure(detector, splits, settings)
    origin_of = provenance(config, seed=settings.seed, seconds=time.monotonic() - started)
    page = _page(rows, config, settings, arguments, origin_of)
    found = {"rows": rows, "epsilon": settings.epsilon, "provenance": origin_of}
    write_text(arguments.output, page)
    write_text(arguments.output.with_suffix(".json"), json.dumps(found, indent=1))
    print(page)


def _measure(detector: Detector, splits: DataSplits, settings: Settings) -> list[dict[str, Any]]:
    """AUROC with both sides attacked, by each member and by all members so far."""
    far = {name: s for name, s in splits.ood_test.items() if splits.roles[name] == "far"}
    aims = targets(detector, splits.id_test, far, settings)
    worst_in: Any = -np.inf
    worst_out: dict[str, Any] = dict.fromkeys(far, np.inf)
    rows = []
    for attack in MEMBERS:
        started = time.monotonic()
        raising = settings.attack((attack,), targets=aims[1])
        lowering = settings.attack((attack,), targets=aims[-1])
        inside = settings.score(detector, splits.id_test, 1, raising).attacked
        outside = {
            name: settings.score(detector, images, -1, lowering).attacked
            for name, images in far.items()
        }
        seconds = time.monotonic() - started
        worst_in = np.maximum(worst_in, inside)
        worst_out = {name: np.minimum(worst_out[name], outside[name]) for name in far}
        rows.append(
            {
                "member": str(attack),
                "passes": list(attack.passes),
                "both": mean(auroc(inside, scores) for scores in outside.values()),
                "so_far": mean(auroc(worst_in, scores) for scores in worst_out.values()),
                "seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
    return rows


def _page(
    rows: list[dict[str, Any]],
    config: Config,
    settings: Settings,
    arguments: argparse.Namespace,
    origin: dict[str, Any],
) -> str:
    lines = [
        f"| {row['member']} | {row['passes'][0]:,} + {row['passes'][1]:,} | "
        f"{100 * row['both']:.1f} | {100 * row['so_far']:.1f} |"
        for row in rows
    ]
    table = "\n".join(lines)
    command = f"python -m benchmarks.members {arguments.detector} --limit {arguments.limit}"
    return f"""# What each attack finds

AUROC (%) of `{config.run.name}` with ID and OOD images attacked, {settings.norm}, epsilon
{fraction_255(settings.epsilon)}, mean over the far sets, {arguments.limit} images of each set: by
the attack alone, and by the worst of it and all above it. Names are kind-STEPSxRESTARTS; passes
are forward + backward per image.

| attack | passes | alone | so far |
|---|---:|---:|---:|
{table}

    {command} --output {arguments.output}

Commit {origin["commit"]}, {origin["date"]}, {origin["hardware"]}.
"""


if __name__ == "__main__":
    main()

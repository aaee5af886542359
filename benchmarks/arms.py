"""Controlled experiments on ATD's parts: one option changed at a time, several seeds.

    python -m benchmarks.arms --config configs/digits.yaml --output docs/arms_digits.md

The backbone is pre-trained once per seed (or once for all with --one-backbone) and shared by all
arms, so that arms differ in nothing but the option named. Finished runs are kept in the JSON file
beside the table; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from atd.config import Config, load
from atd.data.splits import DataSplits, load_splits
from atd.errors import run_command
from atd.evaluation.metrics import auroc
from atd.evaluation.provenance import provenance
from atd.evaluation.settings import settings_from
from atd.judging import limited
from atd.models.detector import Detector
from atd.pipeline import Run
from atd.reporting.wording import attack_words
from atd.run_folder import RunFolder
from atd.training.processes import Processes
from benchmarks.stages import copy_stages

_NONE = ["atd.generator=none"]
_TRAINED = ["atd.generator=trained"]
_DECEIVE = [*_TRAINED, "atd.generator_objective=deceive"]
_BOUNDARY = [*_TRAINED, "atd.generator_objective=boundary", "atd.generator_target=0.25"]
_IMITATE = [*_TRAINED, "atd.generator_objective=imitate"]

ARMS: dict[str, list[str]] = {
    "no generator": _NONE,
    "generator frozen": ["atd.generator=frozen", "atd.alpha=0.5"],
    "generator as in eq. 9": [*_DECEIVE, "atd.alpha=0.5"],
    "generator at D = 0.25": [*_BOUNDARY, "atd.alpha=0.5"],
    "generator imitates outliers": [*_IMITATE, "atd.alpha=0.5"],
    "generator as in eq. 9, weight 0.1": [*_DECEIVE, "atd.alpha=0.9"],
    "generator at D = 0.25, weight 0.1": [*_BOUNDARY, "atd.alpha=0.9"],
    "generator imitates outliers, weight 0.1": [*_IMITATE, "atd.alpha=0.9"],
    "features: last layer": [*_NONE, "backbone.features=last"],
    "features not standardised": [*_NONE, "backbone.standardise=false"],
    "backbone fine-tuned": [*_NONE, "atd.finetune=true"],
    "normalisation: batch": [*_NONE, "atd.normalisation=batch"],
    "normalisation: none": [*_NONE, "atd.normalisation=none"],
    "eq. 9, generated attacked too": [*_DECEIVE, "atd.alpha=0.5", "atd.attack_generated=true"],
    "one attack step": [*_NONE, "atd.steps=1"],
    "ten attack steps": [*_NONE, "atd.steps=10"],
    "not adversarial": [*_NONE, "atd.adversarial=false"],
    "pixels, no backbone": [*_NONE, "atd.features=pixels"],
    "recipe=paper": ["recipe=paper"],
}
_CONDITIONS = ("clean", "in", "out", "both")


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="the Markdown table")
    parser.add_argument("--work", type=Path, default=Path("checkpoints/arms"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), metavar="NAME")
    parser.add_argument("--one-backbone", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    runs = arguments.output.with_suffix(".json")
    done: dict[str, Any] = json.loads(runs.read_text()) if runs.exists() else {}
    common = ["evaluate.baselines=[]", *arguments.overrides]
    splits = load_splits(load(arguments.config, common))
    processes = Processes("cpu")
    for seed in arguments.seeds:
        for arm in arguments.arms:
            if f"{arm}/{seed}" in done:
                continue
            folder = arguments.work / f"{arm.replace(' ', '_').replace('/', '_')}-{seed}"
            overrides = [*common, *ARMS[arm], f"run.seed={seed}", f"run.dir={folder}"]
            config = load(arguments.config, overrides)
            RunFolder(folder).claim(config)
            shared = arguments.work / f"backbone-{0 if arguments.one_backbone else seed}"
            copy_stages(shared, folder)
            detector, _, _ = Run(config, processes, splits).train()
            copy_stages(folder, shared)
            found = _judge(detector, splits, config, processes)
            done = json.loads(runs.read_text()) if runs.exists() else {}
            done[f"{arm}/{seed}"] = {**found, "overrides": overrides}
            _write(runs, json.dumps(done, indent=1))
            _write(arguments.output, _page(done, config, arguments.config))


def _judge(
    detector: Detector, splits: DataSplits, config: Config, processes: Processes
) -> dict[str, Any]:
    """Mean AUROC over the far sets; the evaluation proper, less its checks and baselines."""
    settings = settings_from(config, device=processes.device, accelerator=processes.accelerator)
    splits = limited(splits, config.evaluate.limit, config.run.seed)
    everything = settings.attack()
    inside = settings.score(detector, splits.id_test, 1, everything)
    table = []
    sets = {}
    for name, images in splits.ood_test.items():
        outside = settings.score(detector, images, -1, everything)
        id_side = (inside.clean, inside.attacked, inside.clean, inside.attacked)
        ood_side = (outside.clean, outside.clean, outside.attacked, outside.attacked)
        row = [auroc(one, other) for one, other in zip(id_side, ood_side, strict=True)]
        sets[name] = row
        if splits.roles[name] == "far":
            table.append(row)
    means = [statistics.mean(column) for column in zip(*table, strict=True)]
    attack = {
        "epsilon": settings.epsilon,
        "steps": settings.tier.steps,
        "restarts": settings.tier.restarts,
        "norm": settings.norm,
        "members": [str(member) for member in settings.tier.members],
    }
    mean = dict(zip(_CONDITIONS, means, strict=True))
    return {"mean": mean, "sets": sets, "attack": attack}


def _page(done: dict[str, Any], config: Config, origin: str) -> str:
    rows = []
    for arm in ARMS:
        runs = [run for key, run in done.items() if key.rsplit("/", 1)[0] == arm]
        if not runs:
            continue
        cells = []
        for condition in _CONDITIONS:
            values = [run["mean"][condition] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        options = " ".join(ARMS[arm]) or "(the config)"
        rows.append(f"| {arm} | `{options}` | {len(runs)} | {' | '.join(cells)} |")
    attack = attack_words(next(iter(done.values()))["attack"])
    origin_data = provenance(config, seed=0, seconds=0.0)
    facts = f"commit {origin_data['commit']}, {origin_data['hardware']}, {origin_data['date']}"
    return f"""# Arms: {Path(origin).stem}

Mean AUROC over the far OOD test sets ± standard deviation over seeds, clean and with ID images,
OOD images or both attacked ({attack}).
Every arm below the generators is "no generator" with one more option changed; the arms of a seed
share one backbone. The checks of the attack are not run for every arm; those of the chosen recipe
are in its report.

| arm | options | seeds | {" | ".join(_CONDITIONS)} |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Made by `python -m benchmarks.arms --config {origin}`; every run is in the JSON file of the same
name, with its options. {facts}.
"""


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    main()

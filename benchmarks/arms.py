"""Controlled experiments on ATD's parts: one option changed at a time, several seeds.

    python -m benchmarks.arms --config configs/digits.yaml --output docs/arms_digits.md

The backbone is pre-trained once per seed (or once for all with --one-backbone) and shared by all
arms, so that arms differ in nothing but the option named. Finished runs are kept in the JSON file
beside the table; the same command goes on where it stopped. The paper's own ablations are made by
`python -m atd.reproduce table3`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from atd.config import Config, load
from atd.data.splits import load_splits
from atd.errors import run_command
from atd.experiments.far_sets import judge_far_sets, limited_sets, settings_at, words_of
from atd.metrics import CONDITIONS
from atd.pipeline import Run
from atd.run_folder import RunFolder
from atd.training.processes import Processes
from benchmarks.recipe_runs import Record, Runs, footer, of_recipe, parser, run_missing, spread
from benchmarks.stages import copy_stages

_NONE = ["atd.generator=none"]
_TRAINED = ["atd.generator=trained"]
_DECEIVE = [*_TRAINED, "atd.generator_objective=deceive"]
_IMITATE = [*_TRAINED, "atd.generator_objective=imitate"]

ARMS: dict[str, list[str]] = {
    "no generator": _NONE,
    "generator frozen": ["atd.generator=frozen", "atd.alpha=0.5"],
    "generator as in eq. 9": [*_DECEIVE, "atd.alpha=0.5"],
    "generator imitates outliers": [*_IMITATE, "atd.alpha=0.5"],
    "generator as in eq. 9, weight 0.1": [*_DECEIVE, "atd.alpha=0.9"],
    "generator imitates outliers, weight 0.1": [*_IMITATE, "atd.alpha=0.9"],
    "features: last layer": [*_NONE, "backbone.features=last"],
    "features not standardised": [*_NONE, "backbone.standardise=false"],
    "backbone fine-tuned": [*_NONE, "atd.finetune=true"],
    "normalisation: batch": [*_NONE, "atd.normalisation=batch"],
    "normalisation: none": [*_NONE, "atd.normalisation=none"],
    "one attack step": [*_NONE, "atd.steps=1"],
    "ten attack steps": [*_NONE, "atd.steps=10"],
    "not adversarial": [*_NONE, "atd.adversarial=false"],
}


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = parser(__doc__ or "", ARMS, name="arms", flag="--arms")
    options.add_argument("--one-backbone", action="store_true")
    arguments = options.parse_intermixed_args()
    splits = load_splits(load(arguments.config, arguments.overrides))
    processes = Processes("cpu")

    def measure(arm: str, config: Config) -> Record:
        seed = config.run.seed
        folder = arguments.work / f"{arm.replace(' ', '_').replace('/', '_')}-{seed}"
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(folder)))
        RunFolder(folder).claim(config)
        shared = arguments.work / f"backbone-{0 if arguments.one_backbone else seed}"
        copy_stages(shared, folder)
        detector, _, _ = Run(config, processes, splits).train()
        copy_stages(folder, shared)
        sets, settings = limited_sets(splits, config), settings_at(config, processes)
        return judge_far_sets(detector, sets, settings)

    def page(runs: Runs) -> str:
        return _page(runs, Path(arguments.config).stem) + footer(arguments, runs)

    run_missing(arguments, ARMS, measure, page, common=("evaluate.baselines=[]",))


def _page(runs: Runs, title: str) -> str:
    rows = []
    for arm, options in ARMS.items():
        if mine := [run["mean"] for run in of_recipe(runs, arm).values()]:
            cells = " | ".join(spread([mean[name] for mean in mine]) for name in CONDITIONS)
            rows.append(f"| {arm} | `{' '.join(options)}` | {len(mine)} | {cells} |")
    attack = words_of(next(iter(runs.values())))
    return f"""# Arms: {title}

Mean AUROC over the far OOD test sets ± standard deviation over seeds, clean and with ID images,
OOD images or both attacked ({attack}).
Every arm below the generators is "no generator" with one more option changed; the arms of a seed
share one backbone. The checks of the attack are not run for every arm; those of the chosen recipe
are in its report.

| arm | options | seeds | {" | ".join(CONDITIONS)} |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

"""


if __name__ == "__main__":
    main()

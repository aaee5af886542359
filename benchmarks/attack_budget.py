"""Robustness per second of training: how many attack steps, started where, in which precision.

    python -m benchmarks.attack_budget --config configs/digits.yaml --output docs/attack_budget.md

Every budget trains the discriminator on the same backbone (one per seed, in float32). The detector
of the best epoch, chosen on held-out images as in every training, is judged by the standard tier.
Finished runs are kept in the JSON file beside the table; the same command goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path

from atd.backbones.base import Backbone
from atd.config import Config, load
from atd.data.splits import DataSplits, load_splits
from atd.errors import run_command
from atd.experiments.far_sets import judge_far_sets, limited_sets, settings_at, words_of
from atd.pipeline import Run
from atd.training.ingredients import Ingredients
from atd.training.logbook import Logbook
from atd.training.processes import Processes
from atd.training.tasks import adversarial_gan
from benchmarks.recipe_runs import Record, Runs, footer, of_recipe, parser, run_missing, spread
from benchmarks.stages import pretrained

__all__ = ["BUDGETS", "budget_page"]

PLAIN = "10 steps, float32"
BUDGETS: dict[str, list[str]] = {
    PLAIN: ["atd.steps=10"],
    "10 steps": ["atd.steps=10", "run.precision=bfloat16"],
    "5 steps": ["atd.steps=5", "run.precision=bfloat16"],
    "3 steps": ["atd.steps=3", "run.precision=bfloat16"],
    "2 steps": ["atd.steps=2", "run.precision=bfloat16"],
    "1 step": ["atd.steps=1", "run.precision=bfloat16"],
    "1 to 10 steps, rising": [
        "atd.steps=10",
        "atd.step_schedule=rising",
        "run.precision=bfloat16",
    ],
    "3 steps, carried": ["atd.steps=3", "atd.attack_start=carried", "run.precision=bfloat16"],
    "2 steps, carried": ["atd.steps=2", "atd.attack_start=carried", "run.precision=bfloat16"],
    "1 step, carried": ["atd.steps=1", "atd.attack_start=carried", "run.precision=bfloat16"],
    "1 to 4 steps, rising, carried": [
        "atd.steps=4",
        "atd.step_schedule=rising",
        "atd.attack_start=carried",
        "run.precision=bfloat16",
    ],
}


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = parser(__doc__ or "", BUDGETS, name="attack_budget", flag="--budgets")
    arguments = options.parse_intermixed_args()

    @functools.cache
    def splits() -> DataSplits:
        found = load_splits(load(arguments.config, arguments.overrides))
        far = {name: item for name, item in found.ood_test.items() if found.roles[name] == "far"}
        return dataclasses.replace(found, ood_test=far)

    def measure(_: str, config: Config) -> Record:
        return _measure(config, splits(), arguments.work / f"backbone-{config.run.seed}")

    def page(runs: Runs) -> str:
        return budget_page(runs) + footer(arguments, runs)

    common = ("evaluate.baselines=[]", "evaluate.tier=standard")
    run_missing(arguments, BUDGETS, measure, page, common=common)


def _measure(config: Config, splits: DataSplits, shared: Path) -> Record:
    """Trains one budget on the backbone of its seed and judges it."""
    processes = Processes("cpu")
    backbone = _backbone(config, splits, processes, shared)
    task = adversarial_gan(Ingredients(config, splits, processes), backbone)
    seconds, best, kept = 0.0, -1.0, task.weights()
    batches = task.batches(0)
    for step in range(task.steps):
        # The processor's time, which other work on the machine hardly lengthens.
        started = time.process_time()
        task.step(step, next(batches))
        seconds += time.process_time() - started
        if (step + 1) % task.steps_per_epoch == 0:
            selection = task.validate(step, Logbook(None))["selection"]
            if selection > best:
                best, kept = selection, task.weights()
    task.load_weights(kept)
    sets, settings = limited_sets(splits, config), settings_at(config, processes)
    judged = judge_far_sets(task.detector.requires_grad_(False).eval(), sets, settings)
    clean, both = judged["mean"]["clean"], judged["mean"]["both"]
    print(f"{config.run.seed} {config.atd.steps} {seconds:.1f} s, both {both:.4f}", flush=True)
    found = {"seconds": seconds, "steps": task.steps, "clean": clean, "both": both}
    return {**found, "attack": judged["attack"]}


def _backbone(
    config: Config, splits: DataSplits, processes: Processes, shared: Path
) -> Backbone | None:
    """The seed's backbone, pre-trained in float32 whatever the budget."""
    run = dataclasses.replace(config.run, precision="float32", dir=str(shared))
    return pretrained(Run(dataclasses.replace(config, run=run), processes, splits))


def budget_page(runs: Runs) -> str:
    """The Markdown page of all runs so far."""
    plain = of_recipe(runs, PLAIN)
    rows = [
        _row(f"{name} (`{' '.join(options)}`)", found, plain)
        for name, options in BUDGETS.items()
        if (found := of_recipe(runs, name))
    ]
    attack = words_of(next(iter(runs.values())))
    return f"""# How many attack steps the discriminator's training needs

AUROC with ID and OOD images attacked, mean over the far sets, on the backbone of each seed
({attack}).

*Seconds* are the processor's, of the training steps alone, with one thread. *Difference* is to the
first row, seed by seed. The spread over seeds is larger than most differences.

| budget | seeds | seconds | clean | both | difference |
|---|---:|---:|---:|---:|---:|
{chr(10).join(rows)}

"""


def _row(title: str, runs: dict[int, Record], plain: dict[int, Record]) -> str:
    apart = [runs[seed]["both"] - plain[seed]["both"] for seed in runs if seed in plain]
    cells = [
        title,
        str(len(runs)),
        spread([run["seconds"] for run in runs.values()], 1),
        spread([run["clean"] for run in runs.values()]),
        spread([run["both"] for run in runs.values()]),
        spread(apart, 4) if apart else "-",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

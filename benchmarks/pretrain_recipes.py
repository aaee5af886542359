"""What robustness costs in pre-training: one option changed at a time, several seeds.

    python -m benchmarks.pretrain_recipes --output docs/pretrain_recipes.md

The recipes of a seed share one helper network. Robustness is the accuracy under PGD-20 of ID test
images, which neither training nor the choice of the best epoch has seen. Finished runs are kept in
the JSON file beside the table; the same command goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from atd.attacks import pgd
from atd.backbones.base import Backbone
from atd.config import Config, load
from atd.data.fetching import batches
from atd.data.images import ImageSet
from atd.data.splits import load_splits
from atd.errors import run_command
from atd.inference import frozen
from atd.pipeline import Run
from atd.training.processes import Processes
from atd.training.schedule import attack_steps
from benchmarks.recipe_runs import Record, Runs, footer, of_recipe, parser, run_missing, spread
from benchmarks.stages import copy_stages, pretrained

RECIPES: dict[str, list[str]] = {
    "the config's": [],
    "PGD-10": ["pretrain.steps=10"],
    "PGD-2": ["pretrain.steps=2"],
    "PGD-2, 18 epochs": ["pretrain.steps=2", "pretrain.epochs=18"],
    "PGD-1": ["pretrain.steps=1"],
    "PGD, rising from 1 to 5": ["pretrain.step_schedule=rising"],
    "PGD, rising from 1 to 5, 17 epochs": [
        "pretrain.step_schedule=rising",
        "pretrain.epochs=17",
    ],
    "PGD, rising from 1 to 10": ["pretrain.step_schedule=rising", "pretrain.steps=10"],
    "FGSM-RS": ["pretrain.attack=fgsm-rs"],
    "FGSM-RS, 23 epochs": ["pretrain.attack=fgsm-rs", "pretrain.epochs=23"],
    "statistics of the whole batch": ["pretrain.ghost_batch=0"],
    "ghost batches of 32": ["pretrain.ghost_batch=32"],
    "ghost batches of 16": ["pretrain.ghost_batch=16"],
    "batches of 128, linear rate": ["pretrain.batch_size=128", "pretrain.lr=0.42"],
    "batches of 256, linear rate": ["pretrain.batch_size=256", "pretrain.lr=0.84"],
    "batches of 256, linear rate, 36 epochs": [
        "pretrain.batch_size=256",
        "pretrain.lr=0.84",
        "pretrain.epochs=36",
    ],
    "batches of 256, same rate": ["pretrain.batch_size=256"],
}
_COMMON = ("pretrain.ghost_batch=0",)
"""What every recipe sets before its own options: the config itself has ghost batches by now."""
_STEPS = 20


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = parser(__doc__ or "", RECIPES, name="pretrain_recipes", flag="--recipes")
    arguments = options.parse_intermixed_args()

    def measure(_: str, config: Config) -> Record:
        return _measured(config, arguments.work / f"helper-{config.run.seed}")

    def page(runs: Runs) -> str:
        return _page(runs, arguments.config) + footer(arguments, runs)

    run_missing(arguments, RECIPES, measure, page, common=_COMMON)


def _measured(config: Config, shared: Path) -> Record:
    """Pre-trains once; the helper is taken from, or left in, a shared run folder."""
    splits = load_splits(config)
    with tempfile.TemporaryDirectory() as folder:
        mine = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=folder))
        copy_stages(shared, Path(folder), ["helper"])
        backbone = pretrained(Run(mine, Processes("cpu"), splits))
        assert backbone is not None
        copy_stages(Path(folder), shared, ["helper"])
    test = splits.id_test
    return {
        "pgd20_accuracy": _accuracy(backbone, test, config.pretrain.epsilon),
        "clean_accuracy": _accuracy(backbone, test, 0.0),
        "images": len(test),
    }


def _accuracy(model: Backbone, images: ImageSet, epsilon: float) -> float:
    """Accuracy with every image attacked by PGD-20 on the classification loss, in float32."""
    correct = 0
    with frozen(model):
        for pixels, labels, _ in batches(images, torch.arange(len(images)).split(256)):
            loss = partial(_loss, model, labels)
            attacked = pgd(loss, pixels.float() / 255, epsilon=epsilon, steps=_STEPS).images
            with torch.no_grad():
                correct += int((model(attacked).argmax(1) == labels).sum())
    return correct / len(images)


def _loss(model: Backbone, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(images), labels, reduction="none")


def _page(found: Runs, origin: str) -> str:
    config = load(origin)
    rows = []
    for recipe, options in RECIPES.items():
        runs = list(of_recipe(found, recipe).values())
        if not runs:
            continue
        work = _passes(load(origin, runs[0]["overrides"]))
        cells = [spread([run[key] for run in runs]) for key in ("pgd20_accuracy", "clean_accuracy")]
        text = " ".join(options) or "(none)"
        rows.append(
            f"| {recipe} | `{text}` | {len(runs)} | {' | '.join(cells)} | {work:.0f} | "
            f"{_passes(config) / work:.2f} |"
        )
    images = next(iter(found.values()))["images"]
    return f"""# Recipes of robust pre-training: {Path(origin).stem}

{config.pretrain.objective.upper()}, PGD-{config.pretrain.steps}, {config.pretrain.epochs} epochs,
batches of {config.pretrain.batch_size}, learning rate {config.pretrain.lr:g}, epsilon
{config.pretrain.epsilon:g}; each recipe changes the options named. Batch normalisation takes the
statistics of the whole batch unless a recipe names ghost batches. Accuracy on {images} ID
test images after PGD-{_STEPS} and on the clean ones, mean ± standard deviation over seeds. Passes
are those of a training image through a network in the whole training: forward, backward to the
image, backward to the weights; `speed` is the config's own number of them over the recipe's. The
best epoch by held-out PGD-20 accuracy is kept. Linear rate: the learning rate grows with the batch.

| recipe | options | seeds | PGD-{_STEPS} accuracy | clean accuracy | passes | speed |
|---|---|---:|---:|---:|---:|---:|
{chr(10).join(rows)}

"""


def _passes(config: Config) -> float:
    """Passes of a training image in HAT's training, the helper's own training left out."""
    pretrain, fine = config.pretrain, 1000
    attack = 2.0
    if pretrain.attack == "pgd":
        rising = (
            attack_steps(step, fine, pretrain.steps, pretrain.step_schedule) for step in range(fine)
        )
        attack = 1 + 2 * statistics.mean(rising)
    # Clean, attacked and beyond: forward and both backward ones; the helper: forward.
    return pretrain.epochs * (attack + 3 * 3 + 1)


if __name__ == "__main__":
    main()

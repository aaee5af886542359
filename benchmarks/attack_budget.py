"""Robustness per second of training: how many attack steps, started where, in which precision.

    python -m benchmarks.attack_budget --config configs/digits.yaml --output docs/attack_budget.md

Every budget trains the discriminator on the same backbone (one per seed, in float32). After each
epoch the test sets are attacked briefly, for the curve; the detector of the best epoch, chosen on
held-out images as in every training, is judged by the standard tier. Finished runs are kept in
the JSON file beside the table; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from statistics import mean
from typing import Any

from atd.config import Config, load
from atd.data.splits import DataSplits, load_splits
from atd.errors import run_command
from atd.evaluation.files import replacing
from atd.evaluation.metrics import auroc
from atd.evaluation.provenance import provenance
from atd.evaluation.settings import settings_from
from atd.evaluation.tiers import Member
from atd.judging import limited
from atd.models.backbones import Backbone
from atd.models.detector import Detector
from atd.pipeline import Run
from atd.reporting.wording import attack_words
from atd.training.adversarial_gan import AdversarialGan
from atd.training.logbook import Logbook
from atd.training.processes import Processes
from benchmarks.budget_page import budget_page, draw_curves

__all__ = ["BUDGETS"]

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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="the Markdown page")
    parser.add_argument("--work", type=Path, default=Path("checkpoints/attack_budget"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS), metavar="NAME")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    runs = arguments.output.with_suffix(".json")
    common = ["evaluate.baselines=[]", "evaluate.tier=standard", *arguments.overrides]
    splits = load_splits(load(arguments.config, common))
    for seed in arguments.seeds:
        for name in arguments.budgets:
            done = json.loads(runs.read_text()) if runs.exists() else {"runs": {}}
            if f"{name}/{seed}" in done["runs"]:
                continue
            config = load(arguments.config, [*common, *BUDGETS[name], f"run.seed={seed}"])
            found = _measure(config, splits, arguments.work / f"backbone-{seed}")
            done = json.loads(runs.read_text()) if runs.exists() else done
            done["runs"][f"{name}/{seed}"] = {**found, "options": BUDGETS[name]}
            done["provenance"] = provenance(config, seed=seed, seconds=0.0)
            command = (
                f"python -m benchmarks.attack_budget --config {arguments.config} "
                f"--output {arguments.output}"
            )
            done["command"] = " ".join([command, *arguments.overrides])
            done["attack"] = attack_words(_attack_record(config))
            _write(runs, json.dumps(done, indent=1) + "\n")
            _write(arguments.output, budget_page(done, list(BUDGETS), PLAIN))
            draw_curves(done, list(BUDGETS), arguments.output.with_suffix(".png"))


def _attack_record(config: Config) -> dict[str, Any]:
    settings = settings_from(config)
    return {
        "epsilon": settings.epsilon,
        "steps": settings.tier.steps,
        "restarts": settings.tier.restarts,
        "norm": settings.norm,
        "members": [str(member) for member in settings.tier.members],
    }


def _measure(config: Config, splits: DataSplits, shared: Path) -> dict[str, Any]:
    """Trains one budget on the backbone of its seed and judges it."""
    processes = Processes("cpu")
    run = Run(config, processes, splits)
    task = run.adversarial_gan(_backbone(config, splits, processes, shared), splits)
    curve, seconds, best, kept = [], 0.0, -1.0, task.weights()
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
            quick = _both(task.detector, splits, config, (Member("pgd", 20),))
            curve.append({"seconds": seconds, "steps": step + 1, "both": quick})
    task.load_weights(kept)
    clean, both = _judged(task, splits, config)
    print(f"{config.run.seed} {config.atd.steps} {seconds:.1f} s, both {both:.4f}", flush=True)
    return {"seconds": seconds, "steps": task.steps, "clean": clean, "both": both, "curve": curve}


class _Pretraining(Run):
    """A run that ends with its backbone."""

    def backbone(self, splits: DataSplits) -> Backbone | None:
        self.folder.state.mkdir(parents=True, exist_ok=True)
        return self._backbone(splits, Logbook(None))


def _backbone(
    config: Config, splits: DataSplits, processes: Processes, shared: Path
) -> Backbone | None:
    """The seed's backbone, pre-trained in float32 whatever the budget."""
    run = dataclasses.replace(config.run, precision="float32", dir=str(shared))
    return _Pretraining(dataclasses.replace(config, run=run), processes, splits).backbone(splits)


def _judged(task: AdversarialGan, splits: DataSplits, config: Config) -> tuple[float, float]:
    """Mean AUROC over the far sets, clean and with both sides attacked by the config's tier."""
    task.detector.requires_grad_(False).eval()
    return _both(task.detector, splits, config, ()), _both(task.detector, splits, config, None)


def _both(
    detector: Detector, splits: DataSplits, config: Config, members: tuple[Member, ...] | None
) -> float:
    settings = settings_from(config, device="cpu", progress=False)
    attack = settings.attack() if members is None else settings.attack(members)
    sets = limited(splits, config.evaluate.limit, config.run.seed)
    inside = settings.score(detector, sets.id_test, 1, attack).attacked
    return mean(
        auroc(inside, settings.score(detector, images, -1, attack).attacked)
        for name, images in sets.ood_test.items()
        if sets.roles[name] == "far"
    )


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""PGD-100 evaluation of a detector: the published way, and this package's.

    python -m benchmarks.scoring --detector checkpoints/cifar10/detector

`--batch` ID images (16; CUDA: 128) are attacked upwards and as many outliers downwards. Both
sides start from the same noise, and their AUROC with both attacked stands beside the times. Images
that no metric depends on any more leave our attack early, so a trained detector takes another time
than the untrained one that is measured without `--detector`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from atd.attacks.starts import start_noise
from atd.attacks.suite import member
from atd.compiled import compiled_function
from atd.config import restore
from atd.data.images import ImageSet
from atd.data.splits import load_splits
from atd.detectors.base import Detector
from atd.errors import run_command
from atd.evaluation.jobs import Job, ScoredSet
from atd.evaluation.rounds import attack_rounds
from atd.evaluation.settings import Settings
from atd.evaluation.tiers import Tier
from atd.metrics import auroc
from benchmarks.published import published_scores
from benchmarks.speed import Row, Setting, finish, measure, parser, setting_from
from benchmarks.timing import Step
from benchmarks.workbench import atd_task, bundled_splits

__all__ = ["ROWS", "build"]

_BATCH = 256

_AUROC: dict[str, float] = {}
"""AUROC with both sides attacked that each row's last step found."""


ROWS = {
    "published style": Row(published=True),
    "ours, every image to the end": Row(),
    "ours, finished images leave": Row(),
    "ours, finished images leave, compiled": Row(options=("run.compile=true",)),
}


@dataclass(frozen=True)
class Bench:
    """A detector, the images that it is judged on, and the attack."""

    detector: Detector
    id_val: ImageSet
    id_test: ImageSet
    ood_test: Mapping[str, ImageSet]
    settings: Settings

    @classmethod
    def of(cls, setting: Setting) -> Bench:
        """The trained detector of a setting with its own test images, or an untrained one."""
        if setting.detector is None:
            overrides = setting.config()
            detector, splits = atd_task(overrides).detector, bundled_splits(overrides)
            epsilon = 8 / 255
        else:
            detector = Detector.from_pretrained(setting.detector, setting.device)
            origin = str(setting.detector / "config.json")
            config = restore(detector.config.training, origin, list(setting.overrides))
            splits, epsilon = load_splits(config), config.evaluation_epsilon
        name = next(iter(splits.ood_test))
        tier = Tier("paper", (member("pgd", 3 if setting.quick else 100),))
        return cls(
            detector.eval(),
            splits.id_val.take(setting.batch, 0),
            splits.id_test.take(setting.batch, 0),
            {name: splits.ood_test[name].take(setting.batch, 0)},
            Settings(
                tier=tier,
                epsilon=epsilon,
                batch_size=_BATCH,
                device=setting.device,
                progress=False,
            ),
        )

    @property
    def sides(self) -> tuple[tuple[ImageSet, int], tuple[ImageSet, int]]:
        """ID images, whose scores rise, and the OOD images, whose scores fall."""
        return (self.id_test, 1), (next(iter(self.ood_test.values())), -1)


def build(name: str, setting: Setting) -> Step:
    """The evaluation of a row; its step notes the AUROC."""
    bench = Bench.of(setting)
    evaluate = dict(zip(ROWS, (_published, _to_the_end, _leaving, _leaving), strict=True))[name]
    if ROWS[name].compiled:
        vars(bench.detector)["logits"] = compiled_function(bench.detector.logits)

    def step() -> None:
        _AUROC[name] = evaluate(bench)

    return step


def _published(bench: Bench) -> float:
    settings = bench.settings
    detector = bench.detector.requires_grad_(True).to(memory_format=torch.contiguous_format)
    found: list[Tensor] = []
    for images, direction in bench.sides:
        parts = [
            published_scores(
                detector,
                images.fetch(indices).to(settings.device).float() / 255,
                start_noise(images.fetch([0]).shape[1:], indices, 0, 0).to(settings.device),
                direction,
                epsilon=settings.epsilon,
                steps=settings.tier.steps,
            )
            for indices in torch.arange(len(images)).split(_BATCH)
        ]
        found.append(torch.cat(parts).cpu())
    return auroc(found[0].numpy(), found[1].numpy())


def _to_the_end(bench: Bench) -> float:
    attack = bench.settings.attack()
    (inside, _), (outside, _) = bench.sides
    jobs = [Job(inside, 1, attack), Job(outside, -1, attack)]
    one, other = bench.settings.score_sets(bench.detector, jobs)
    return _auroc(one, other)


def _leaving(bench: Bench) -> float:
    rounds = attack_rounds(bench.detector, bench, bench.settings, (), lambda count: None)
    return _auroc(rounds.id_test, next(iter(rounds.ood.values())))


def _auroc(inside: ScoredSet, outside: ScoredSet) -> float:
    return auroc(inside.attacked, outside.attacked)


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--detector", type=Path, help="a trained detector folder")
    arguments = options.parse_intermixed_args()
    setting = setting_from(arguments, cpu_batch=16)
    started = time.monotonic()
    # Compiling takes minutes; a quick try is to take seconds.
    rows = {name: row for name, row in ROWS.items() if not (setting.quick and row.compiled)}
    found = measure(rows, build, setting, arguments.repeats or (2 if arguments.quick else 3))
    finish("scoring", found | {"auroc": _AUROC}, setting, arguments.output, started)
    print(f"AUROC with both sides attacked: {_AUROC}")


if __name__ == "__main__":
    main()

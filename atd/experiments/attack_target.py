"""The paper's table 4: what an attack on the classifier does to the detector, and the reverse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atd.attacks import apgd, pgd
from atd.attacks.objective import Attacked, PerSample
from atd.attacks.starts import start_noise
from atd.backbones.base import Backbone
from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.data.images import ImageSet
from atd.detectors.base import Detector
from atd.evaluation.judgement import averaged_sets
from atd.evaluation.scoring import full_precision
from atd.evaluation.settings import Settings
from atd.evaluation.subject import Subject
from atd.experiments.far_sets import ATTACKS, limited_sets, settings_at
from atd.experiments.methods import COMPARED, DEFAULT, PAPER
from atd.experiments.missing import Record, Runs, run_missing, typed
from atd.experiments.order import Order
from atd.experiments.tables import agrees
from atd.experiments.workshop import Workshop
from atd.inference import frozen
from atd.metrics import Array, auroc
from atd.records import to_json
from atd.reporting.target_table import TargetRow, targets_page

__all__ = ["page", "reproduce_table4"]

_METHODS = {
    "OSAD (OpenMax)": COMPARED["OSAD (OpenMax)"],
    "ATD, the paper's text": PAPER,
    "ATD, this package's recipe": DEFAULT,
}

_QUOTED = {
    "OSAD (OpenMax)": {"classifier": (0.419, 0.813), "detector": (0.777, 0.544)},
    "ATD, the paper's text": {"classifier": (0.622, 0.918), "detector": (0.847, 0.837)},
}
"""Accuracy and AUROC in the paper, on CIFAR-10, by what is attacked."""

_STARTS = {"paper": 1, "stronger": 3}

Goal = Callable[[Tensor, Tensor], PerSample]
"""What is raised, of images and their labels."""


def reproduce_table4(order: Order) -> None:
    """Makes the table.

    Raises:
        UserError: Bad options, or the finished rows are damaged.
    """
    setting = order.setting
    shop = Workshop(setting, order.work)
    names = {f"{setting.name}/{name}": name for name in _METHODS}

    def measure(row: str, config: Config) -> Record:
        name = names[row]
        detector, splits = shop.detector(_METHODS[name], config.run.seed)
        settings = settings_at(config, shop.processes, **ATTACKS[setting.scale][0])
        quoted = _QUOTED.get(name, {}) if agrees(config) else {}
        found = _measured(detector, limited_sets(splits, config), settings)
        return {**to_json(setting), "method": name, "quoted": to_json(quoted), **found}

    run_missing(
        order.output,
        names,
        order.seeds,
        setting=setting,
        configure=lambda row, seed: shop.config(_METHODS[names[row]], seed),
        measure=measure,
        page=page,
    )


def page(runs: Runs) -> str:
    """The page of finished runs."""
    return targets_page(list(typed(TargetRow, runs).values()), tuple(_METHODS))


@full_precision()
def _measured(detector: Detector, sets: EvaluationSets, settings: Settings) -> Record:
    """Accuracy and AUROC on unattacked ID images, and on ID images attacked in four ways."""
    assert detector.backbone is not None
    goals = {"classifier": _wrong(detector.backbone), "detector": _flagged(detector)}
    with frozen(detector):
        averaged = averaged_sets(sets)
        outside = {name: _scores(detector, sets.ood_test[name], settings) for name in averaged}
        found = {"clean": _judged(detector, sets.id_test, outside, settings)}
        for strength in _STARTS:
            for target, goal in goals.items():
                move = partial(_moved, goal, strength, settings)
                found[f"{strength} {target}"] = _judged(
                    detector, sets.id_test, outside, settings, move
                )
    return {
        "found": found,
        "images": len(sets.id_test),
        "mean_over": averaged,
        "steps": settings.tier.steps,
        "epsilon": settings.epsilon,
    }


def _wrong(classifier: Backbone) -> Goal:
    """What an attack on the classifier raises: the cross-entropy of the true class."""

    def entropy(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(classifier.logits(images), labels, reduction="none")

    return lambda images, labels: PerSample(entropy, (labels,))


def _flagged(detector: Detector) -> Goal:
    """What an attack on the detector raises on ID images: its score."""
    return lambda images, labels: Subject(detector).objective(1)


def _moved(
    goal: Goal, strength: str, settings: Settings, images: Tensor, labels: Tensor, indices: Tensor
) -> Tensor:
    """The images (N, C, H, W) where an attack found most."""
    objective = goal(images, labels)
    best = Attacked.of(objective, images)
    attack = pgd if strength == "paper" else apgd
    for start in range(_STARTS[strength]):
        noise = start_noise(images.shape[1:], indices, settings.seed, start).to(images.device)
        found = attack(
            objective,
            images,
            epsilon=settings.epsilon,
            steps=settings.tier.steps,
            norm=settings.norm,
            noise=noise,
        )
        best = best.better(found)
    return best.images


def _judged(
    detector: Detector,
    images: ImageSet,
    outside: dict[str, Array],
    settings: Settings,
    move: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """Accuracy of the classifier and mean AUROC where ID images were moved."""
    assert detector.backbone is not None
    right, scores = [], []
    for indices in torch.arange(len(images)).split(settings.batch_size):
        pixels = images.fetch(indices).to(settings.place).float() / 255
        labels = images.labels[indices].to(settings.place)
        if move is not None:
            pixels = move(pixels, labels, indices)
        with torch.no_grad():
            right.append(detector.backbone.logits(pixels).argmax(1).eq(labels).cpu())
            scores.append(detector.logits(pixels).cpu())
    inside = torch.cat(scores).double().numpy()
    return {
        "accuracy": float(torch.cat(right).float().mean()),
        "auroc": float(np.mean([auroc(inside, found) for found in outside.values()])),
    }


@torch.no_grad()
def _scores(detector: Detector, images: ImageSet, settings: Settings) -> Array:
    """Scores (N,) of unattacked images."""
    parts = torch.arange(len(images)).split(settings.batch_size)
    pixels = (images.fetch(part).to(settings.place).float() / 255 for part in parts)
    found: Array = torch.cat([detector.logits(x).cpu() for x in pixels]).double().numpy()
    return found

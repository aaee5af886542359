"""The judgement of a detector: every set clean and attacked, metrics, threshold, checks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from torch import nn

from atd.config import Config
from atd.errors import UserError
from atd.evaluation import checks as judge
from atd.evaluation.metrics import Array, mean_metrics, metrics, threshold_at
from atd.evaluation.probes import probe_checks
from atd.evaluation.provenance import provenance
from atd.evaluation.scoring import Images, ScoredSet, attack_scores
from atd.evaluation.settings import Settings, Tier, resolve_tier, settings_from

__all__ = [
    "CONDITIONS",
    "Evaluation",
    "ScoredSet",
    "Settings",
    "Splits",
    "Tier",
    "attack_scores",
    "evaluate",
    "resolve_tier",
    "settings_from",
]

CONDITIONS = ("clean", "in", "out", "both")
"""What is attacked: nothing, the ID images, the OOD images, each."""

Role = Literal["far", "near"]


class Splits(Protocol):
    """The image sets that are judged (`atd.data.splits.DataSplits` has them)."""

    @property
    def id_val(self) -> Images:
        """Held-out ID images; they set the threshold."""

    @property
    def id_test(self) -> Images:
        """ID test images."""

    @property
    def ood_test(self) -> Mapping[str, Images]:
        """OOD test sets by name."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """`far` or `near` for each of them."""

    @property
    def selection(self) -> frozenset[str]:
        """Those of them that also chose the best epoch."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        results: The JSON-able results, schema 1.
        id_test: Scores of the ID test images.
        ood: Scores of each OOD test set.
        id_val: Clean scores (N,) of the held-out ID images.
    """

    results: dict[str, Any]
    id_test: ScoredSet
    ood: dict[str, ScoredSet]
    id_val: Array = field(repr=False)


def evaluate(
    detector: nn.Module,
    splits: Splits,
    settings: Settings,
    *,
    name: str,
    path: str = "",
    baselines: Mapping[str, nn.Module] | None = None,
    config: Config | None = None,
) -> Evaluation:
    """Judges a detector, clean and under attack, and compares it with baselines.

    Args:
        detector: Module with `logits(images) -> (N,)`, larger = more OOD; on the right device.
        splits: The image sets; limit them beforehand (`ImageSet.take`).
        settings: Attack and execution.
        name: The detector's name in tables.
        path: Where the detector lies, for the record.
        baselines: Other detectors, attacked in the same way on the same sets.
        config: The run's options, for provenance.

    Returns:
        Results and scores, equal on every process.

    Raises:
        UserError: No OOD test set, an empty set, or scores that are not finite numbers.
    """
    if not splits.ood_test:
        raise UserError("data.ood_test: name at least one OOD test set to evaluate on")
    started = time.monotonic()
    id_val = settings.score(detector, splits.id_val, 1, "none").clean
    id_test = settings.score(detector, splits.id_test, 1)
    ood = {key: settings.score(detector, images, -1) for key, images in splits.ood_test.items()}
    datasets = {
        key: {"images": len(scored.clean), "role": _role(splits, key)}
        | _conditions(id_test, scored, settings.seed)
        for key, scored in ood.items()
    }
    averaged = _averaged(datasets)
    near = [key for key, item in datasets.items() if item["role"] == "near"]
    checks = _score_checks([id_test, *ood.values()]) | probe_checks(
        detector, splits.id_test, [splits.ood_test[key] for key in averaged], settings
    )
    results = {
        "schema": 1,
        "detector": {"name": name, "path": path, "parameters": _size(detector)},
        "attack": _attack(settings),
        "id": {"name": splits.id_test.name, "images": len(id_test.clean)},
        "datasets": datasets,
        "mean": _mean(datasets, averaged),
        "mean_near": _mean(datasets, near),
        "mean_over": averaged,
        "threshold": _threshold(id_val, id_test, [ood[key] for key in averaged]),
        "baselines": _baselines(baselines or {}, splits, settings, averaged),
        "checks": checks,
        "verdict": judge.verdict(checks),
    }
    seconds = time.monotonic() - started
    results["provenance"] = provenance(config, seed=settings.seed, seconds=seconds)
    return Evaluation(results=results, id_test=id_test, ood=ood, id_val=id_val)


def _role(splits: Splits, name: str) -> str:
    """A set that chose the best epoch is no independent test any more, and says so."""
    return "validation" if name in splits.selection else splits.roles.get(name, "far")


def _averaged(datasets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The far sets; all sets where there is no far one."""
    far = [name for name, item in datasets.items() if item["role"] == "far"]
    return far or list(datasets)


def _conditions(inside: ScoredSet, outside: ScoredSet, seed: int) -> dict[str, Any]:
    return {
        "clean": metrics(inside.clean, outside.clean, seed=seed),
        "in": metrics(inside.attacked, outside.clean, seed=seed),
        "out": metrics(inside.clean, outside.attacked, seed=seed),
        "both": metrics(inside.attacked, outside.attacked, seed=seed),
    }


def _mean(datasets: Mapping[str, Mapping[str, Any]], names: list[str]) -> dict[str, Any]:
    if not names:
        return {}
    return {
        condition: mean_metrics([datasets[name][condition] for name in names])
        for condition in CONDITIONS
    }


def _size(detector: nn.Module) -> int:
    return sum(parameter.numel() for parameter in detector.parameters())


def _attack(settings: Settings) -> dict[str, Any]:
    return {
        "tier": settings.tier.name,
        "norm": "linf",
        "epsilon": settings.epsilon,
        "steps": settings.tier.steps,
        "step_size": settings.step_size,
        "restarts": settings.tier.restarts,
        "members": ["pgd"],
    }


def _score_checks(sets: list[ScoredSet]) -> dict[str, judge.Check]:
    gains = [scored.direction * (scored.attacked - scored.clean) for scored in sets]
    return {
        "scores_finite": judge.scores_finite(
            [values for scored in sets for values in (scored.clean, scored.attacked)]
        ),
        "attack_never_weaker": judge.attack_never_weaker(gains),
        "gradients_present": judge.gradients_present([scored.zero_gradient for scored in sets]),
    }


def _threshold(id_val: Array, inside: ScoredSet, outside: list[ScoredSet]) -> dict[str, float]:
    """Shares accepted (score <= threshold): ID as `tpr`, OOD of the averaged sets as `fpr`."""
    value = threshold_at(id_val, 0.95)
    clean = np.concatenate([scored.clean for scored in outside])
    attacked = np.concatenate([scored.attacked for scored in outside])
    return {
        "value": value,
        "tpr_clean": float((inside.clean <= value).mean()),
        "tpr_attacked": float((inside.attacked <= value).mean()),
        "fpr_clean": float((clean <= value).mean()),
        "fpr_attacked": float((attacked <= value).mean()),
    }


def _baselines(
    baselines: Mapping[str, nn.Module], splits: Splits, settings: Settings, names: list[str]
) -> dict[str, Any]:
    found = {}
    for baseline, module in baselines.items():
        inside = settings.score(module, splits.id_test, 1)
        outside = {name: settings.score(module, splits.ood_test[name], -1) for name in names}
        items = {name: _conditions(inside, outside[name], settings.seed) for name in names}
        found[baseline] = _mean(items, names)
    return found

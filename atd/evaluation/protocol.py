"""The judgement of a detector: every set clean and attacked, metrics, threshold, checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from atd.compiled import compiled_logits
from atd.config import Config
from atd.errors import UserError
from atd.evaluation import checks as judge
from atd.evaluation.cache import fingerprint
from atd.evaluation.consistency import consistency_checks, is_randomised
from atd.evaluation.probes import PROBE_PASSES, Probes
from atd.evaluation.progress import progress_bar
from atd.evaluation.rounds import ImageSets, Rounds, Tick, attack_rounds
from atd.evaluation.scoring import ScoredSet
from atd.evaluation.settings import Settings
from atd.evaluation.subset import Sides
from atd.metrics import (
    CONDITIONS,
    Array,
    auroc_interval,
    mean_metrics,
    metrics,
    threshold_at,
)
from atd.provenance import provenance

__all__ = ["Evaluation", "Splits", "evaluate"]

Role = Literal["far", "near"]


class Splits(ImageSets, Protocol):
    """The image sets that are judged (`atd.data.splits.DataSplits` has them)."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """`far` or `near` for each of them."""

    @property
    def selection(self) -> frozenset[str]:
        """Those of them that also chose the best epoch."""


_PROBED = 64
"""Images of each side for the checks that attack, and half as many for those that do not."""

_REVERSED = 0.35
"""Below it, an AUROC of unattacked images tells of scores that are the wrong way round."""

_DRAWS = 20
"""Evaluations that are averaged when a detector turns out to be randomised (EOT)."""


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
    sources: Mapping[str, nn.Module] | None = None,
    config: Config | None = None,
) -> Evaluation:
    """Judges a detector, clean and under attack, and compares it with baselines.

    Args:
        detector: See `atd.evaluation.subject.Subject`; on the right device.
        splits: The image sets; limit them beforehand (`ImageSet.take`).
        settings: Attack and execution.
        name: The detector's name in tables.
        path: Where the detector lies, for the record.
        baselines: Other detectors, attacked in the same way on the same sets.
        sources: Detectors that adversarial images are transferred from; the baselines are too.
        config: The run's options, for provenance.

    Returns:
        Results and scores, equal on every process.

    Raises:
        UserError: No OOD test set, an empty set, scores that are not finite numbers or point
            the wrong way.
    """
    if not splits.ood_test:
        raise UserError(
            "data.ood_test: name at least one OOD test set to evaluate on, or set data.protocol"
        )
    started = time.monotonic()
    others = {**(baselines or {}), **(sources or {})}
    averaged = _averaged(splits)
    sides = Sides.of(splits.id_test, [splits.ood_test[key] for key in averaged], _PROBED)
    settings = _with_draws(detector, sides, settings)
    with progress_bar(
        f"attacking {name}", _work(splits, settings, baselines), show=settings.progress
    ) as bar:
        with compiled_logits(detector) if settings.compiled else nullcontext():
            rounds = attack_rounds(detector, splits, settings, tuple(others.values()), bar)
        _require_direction(name, rounds, averaged)
        probes = Probes(detector, sides, replace(settings, draws=1), tuple(others.values()), bar)
        checks = _checks(detector, rounds, sides, probes, settings)
        found = _baselines(baselines or {}, splits, settings, averaged, bar)
        curves = probes.curves()
    datasets = {
        key: {"images": len(scored.clean), "role": _role(splits, key)}
        | _conditions(rounds.id_test, scored, settings.seed)
        for key, scored in rounds.ood.items()
    }
    near = [key for key, item in datasets.items() if item["role"] == "near"]
    results = {
        "schema": 1,
        "detector": {
            "name": name,
            "path": path,
            "parameters": sum(p.numel() for p in detector.parameters()),
            "sha256": fingerprint(detector),
        },
        "protocol": settings.protocol,
        "attack": _attack(settings),
        "id": {"name": splits.id_test.name, "images": len(rounds.id_test.clean)},
        "datasets": datasets,
        "mean": _mean(datasets, averaged),
        "mean_near": _mean(datasets, near),
        "mean_over": averaged,
        "threshold": _threshold(rounds, averaged),
        "baselines": found,
        "strongest": _strongest([rounds.id_test, *rounds.ood.values()]),
        "curves": curves,
        "checks": checks,
        "verdict": judge.verdict(checks),
    }
    seconds = time.monotonic() - started
    results["provenance"] = provenance(config, seed=settings.seed, seconds=seconds)
    return Evaluation(results=results, id_test=rounds.id_test, ood=rounds.ood, id_val=rounds.id_val)


def _with_draws(detector: nn.Module, sides: Sides, settings: Settings) -> Settings:
    """A randomised detector is attacked in expectation (Athalye et al., 2018)."""
    device = settings.place
    images = sides.inside.fetch(torch.arange(min(8, len(sides.inside)))).to(device).float() / 255
    return replace(settings, draws=_DRAWS) if is_randomised(detector, images) else settings


def _work(splits: Splits, settings: Settings, baselines: Mapping[str, nn.Module] | None) -> int:
    """Passes through detectors, roughly: what is done per image times the images."""
    images = len(splits.id_test) + sum(len(images) for images in splits.ood_test.values())
    whole = images * settings.attack().passes * (1 + len(baselines or {}))
    return whole + 2 * _PROBED * PROBE_PASSES


def _require_direction(name: str, rounds: Rounds, averaged: list[str]) -> None:
    """Scores that are the wrong way round would pass for a detector that is merely bad."""
    outside = np.concatenate([rounds.ood[key].clean for key in averaged])
    low, high = auroc_interval(rounds.id_test.clean, outside)
    if high < _REVERSED:
        raise UserError(
            f"{name}: its AUROC on unattacked images is {(low + high) / 2:.2f}, so its scores seem "
            "to be the wrong way round; a larger score must mean more likely OOD"
        )


def _checks(
    detector: nn.Module, rounds: Rounds, sides: Sides, probes: Probes, settings: Settings
) -> dict[str, judge.Check]:
    sets = [rounds.id_test, *rounds.ood.values()]
    inside, outside = (
        pixels.to(settings.place).float() / 255 for pixels in sides.pixels(_PROBED // 2)
    )
    return {
        "scores_finite": judge.scores_finite([scored.broken for scored in sets]),
        "attack_never_weaker": judge.attack_never_weaker(
            [scored.direction * (scored.attacked - scored.clean) for scored in sets]
        ),
        "gradients_present": judge.gradients_present([scored.zero_gradient for scored in sets]),
        **consistency_checks(
            detector, inside, outside, epsilon=settings.epsilon, seed=settings.seed
        ),
        **probes.checks(),
    }


def _role(splits: Splits, name: str) -> str:
    """A set that chose the best epoch is no independent test any more, and says so."""
    return "validation" if name in splits.selection else splits.roles.get(name, "far")


def _averaged(splits: Splits) -> list[str]:
    """The far sets; all sets where there is no far one."""
    far = [name for name in splits.ood_test if _role(splits, name) == "far"]
    return far or list(splits.ood_test)


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


def _attack(settings: Settings) -> dict[str, Any]:
    forward, backward = settings.tier.passes
    return {
        "tier": settings.tier.name,
        "norm": settings.norm,
        "epsilon": settings.epsilon,
        "steps": settings.tier.steps,
        "step_size": settings.step_size,
        "restarts": settings.tier.restarts,
        "members": [str(member) for member in settings.tier.members],
        "draws": settings.draws,
        "passes": {"forward": forward, "backward": backward},
    }


def _threshold(rounds: Rounds, averaged: Sequence[str]) -> dict[str, float]:
    """Shares accepted (score <= threshold): ID as `tpr`, OOD of the averaged sets as `fpr`."""
    value, inside = threshold_at(rounds.id_val, 0.95), rounds.id_test
    clean = np.concatenate([rounds.ood[key].clean for key in averaged])
    attacked = np.concatenate([rounds.ood[key].attacked for key in averaged])
    return {
        "value": value,
        "tpr_clean": float((inside.clean <= value).mean()),
        "tpr_attacked": float((inside.attacked <= value).mean()),
        "fpr_clean": float((clean <= value).mean()),
        "fpr_attacked": float((attacked <= value).mean()),
    }


def _strongest(sets: Sequence[ScoredSet]) -> dict[str, float]:
    """Share of all images on which each member found the worst score."""
    names = ["unchanged image", *sets[0].members]
    counts = Counter(names[1 + number] for scored in sets for number in scored.member.tolist())
    total = sum(counts.values())
    return {name: counts[name] / total for name in names}


def _baselines(
    baselines: Mapping[str, nn.Module],
    splits: Splits,
    settings: Settings,
    names: list[str],
    tick: Tick,
) -> dict[str, Any]:
    found = {}
    for baseline, module in baselines.items():
        others = tuple(other for other in baselines.values() if other is not module)
        rounds = attack_rounds(module, splits, settings, others, tick, names=names)
        items = {key: _conditions(rounds.id_test, rounds.ood[key], settings.seed) for key in names}
        found[baseline] = _mean(items, names)
    return found

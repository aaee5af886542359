"""How much of the published robustness is real: the released recipe and ours under one attack."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.detectors.base import Detector
from atd.evaluation.judgement import averaged_sets, judge_detector
from atd.evaluation.settings import Settings
from atd.experiments.far_sets import (
    ATTACKS,
    conditions,
    judge_far_sets,
    limited_sets,
    settings_at,
    words_of,
)
from atd.experiments.methods import DEFAULT, PAPER, PUBLISHED, Method
from atd.experiments.missing import Record, Runs, run_missing, typed
from atd.experiments.order import Order
from atd.experiments.released_attack import (
    Released,
    attack_as_released,
    flat_share,
    saturated_share,
)
from atd.experiments.workshop import Workshop
from atd.metrics import CONDITIONS, Array
from atd.records import to_json
from atd.reporting.findings_figures import draw_findings
from atd.reporting.findings_page import FindingRow, findings_page

__all__ = ["RECIPES", "page", "reproduce_findings"]

RECIPES = {
    "released code": PUBLISHED,
    "released code, trained without attacks": Method(
        options=("recipe=published", "atd.adversarial=false")
    ),
    "the paper's text": PAPER,
    "this package": DEFAULT,
}
"""What is compared, on one backbone a seed."""

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_EDGES = np.linspace(-40, 40, 41)


def reproduce_findings(order: Order) -> None:
    """Makes the page and its pictures.

    Raises:
        UserError: Bad options, or the finished rows are damaged.
    """
    setting = order.setting
    shop = Workshop(setting, order.work)
    names = {f"{setting.name}/{name}": name for name in RECIPES}

    @functools.lru_cache(maxsize=1)
    def made(seed: int) -> dict[str, tuple[Detector, EvaluationSets]]:
        found = {}
        for name, method in RECIPES.items():
            detector, splits = shop.detector(method, seed)
            found[name] = detector, limited_sets(splits, shop.config(method, seed))
        return found

    def measure(row: str, config: Config) -> Record:
        detectors = made(config.run.seed)
        detector, sets = detectors[names[row]]
        others = [other for name, (other, _) in detectors.items() if name != names[row]]
        method = RECIPES[names[row]]
        told = {**to_json(setting), "recipe": names[row], "options": list(method.options)}
        first, second = ATTACKS[setting.scale]
        paper = settings_at(config, shop.processes, **first)
        strong = settings_at(config, shop.processes, **{**second, "tier": "strong"})
        return {**told, **_found(detector, sets, paper, strong, others)}

    run_missing(
        order.output,
        names,
        order.seeds,
        setting=setting,
        configure=lambda row, seed: shop.config(RECIPES[names[row]], seed),
        measure=measure,
        page=lambda runs: page(runs, order.output),
    )


def page(runs: Runs, output: Path) -> str:
    """The page of finished runs; draws its pictures beside it."""
    rows = list(typed(FindingRow, runs).values())
    return findings_page(rows, draw_findings(rows, output), tuple(RECIPES))


def _found(
    detector: Detector,
    sets: EvaluationSets,
    paper: Settings,
    strong: Settings,
    others: list[Detector],
) -> Record:
    """What three attacks leave of a detector, and how many of its scores are saturated."""
    released = _released(detector, sets, paper)
    plain = judge_far_sets(detector, sets, paper)
    judged = judge_detector(detector, sets, strong, others, lambda passes: None)
    averaged = averaged_sets(sets)
    inside, outside = judged.rounds.id_test, [judged.rounds.ood[name] for name in averaged]
    logits = {"id": inside.clean, "ood": np.concatenate([part.clean for part in outside])}
    flat = np.concatenate([released["id"].flat, *(released[name].flat for name in averaged)])
    zero = np.concatenate([inside.zero_gradient, *(part.zero_gradient for part in outside)])
    return {
        "attacks": {
            "released": _mean(
                conditions(
                    (released["id"].clean, released["id"].attacked),
                    (released[name].clean, released[name].attacked),
                )
                for name in averaged
            ),
            "paper": plain["mean"],
            "strong": {name: judged.mean[name]["auroc"] for name in CONDITIONS},
        },
        "paper_attack": words_of(plain),
        "strong_members": [str(member) for member in strong.tier.members],
        "verdict": judged.verdict,
        "images": len(inside.clean),
        "mean_over": averaged,
        "zero_gradient": {"loss": float(flat.mean()), "logit": float(zero.mean())},
        **_saturation(logits),
    }


def _released(detector: Detector, sets: EvaluationSets, settings: Settings) -> dict[str, Released]:
    found = {"id": attack_as_released(detector, sets.id_test, settings, is_ood=False)}
    for name, images in sets.ood_test.items():
        found[name] = attack_as_released(detector, images, settings, is_ood=True)
    return found


def _mean(found: Iterable[dict[str, float]]) -> dict[str, float]:
    several = list(found)
    return {name: statistics.mean(one[name] for one in several) for name in CONDITIONS}


def _saturation(logits: dict[str, Array]) -> dict[str, Any]:
    """How far out the unattacked logits lie, and what that does to the released loss."""
    every = np.concatenate(list(logits.values()))
    flat = {
        name: float(
            np.average(
                [flat_share(side, is_ood=key == "ood", dtype=kind) for key, side in logits.items()],
                weights=[len(side) for side in logits.values()],
            )
        )
        for name, kind in _PRECISIONS.items()
    }
    clipped = {key: np.clip(side, _EDGES[0], _EDGES[-1]) for key, side in logits.items()}
    return {
        "flat_loss": flat,
        "saturated": {name: saturated_share(every, kind) for name, kind in _PRECISIONS.items()},
        "largest_logit": float(np.abs(every).max()),
        "edges": _EDGES.tolist(),
        "histogram": {
            key: (np.histogram(side, _EDGES)[0] / len(side)).round(4).tolist()
            for key, side in clipped.items()
        },
    }

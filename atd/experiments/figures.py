"""The paper's figures 1 and 2: AUROC against the radius, and scores before and after an attack."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from atd.config import Config
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.jobs import Job
from atd.evaluation.judgement import averaged_sets
from atd.experiments.bench import Bench
from atd.experiments.far_sets import (
    ATTACKS,
    attack_facts,
    judge_far_sets,
    limited_sets,
    settings_at,
    words_of,
)
from atd.experiments.missing import Record, Runs
from atd.experiments.order import Order
from atd.experiments.rows import Measure, measure_detectors_of
from atd.metrics import CONDITIONS, auroc
from atd.pipeline import Run
from atd.records import from_json
from atd.reporting.drawing import save
from atd.reporting.radius_page import RadiusRow, radius_figure, radius_page
from atd.reporting.shift_page import ShiftRow, shift_figure, shift_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reproduce_figure1", "reproduce_figure2"]

Row = TypeVar("Row", RadiusRow, ShiftRow)

_FACTORS = (0.25, 0.5, 0.75, 1.0)
"""Radii as multiples of that of the evaluation; 0 comes on top."""
_BINS = 40
_OUTERMOST = 0.002
"""Share of scores on either side that is counted in the last bins."""
_BASELINES = ("openmax", "mahalanobis", "mahalanobis@standard", "msp@aloe", "openmax@osad")


def reproduce_figure1(order: Order) -> None:
    """Makes the curves of ATD and of other methods; at scale smoke, of two on one network."""
    usual = ("atd", "msp") if order.setting.scale == "smoke" else ("atd", *_BASELINES)
    _reproduce(order, usual, _curves, RadiusRow, radius_figure, radius_page)


def reproduce_figure2(order: Order) -> None:
    """Makes the histograms of the paper's two methods and of ATD; at scale smoke, of one."""
    usual = ("msp",) if order.setting.scale == "smoke" else ("msp@aloe", "openmax@osad", "atd")
    _reproduce(order, usual, _shifts, ShiftRow, shift_figure, shift_page)


def _reproduce(
    order: Order,
    usual: tuple[str, ...],
    measure: Measure,
    kind: type[Row],
    figure: Callable[[list[Row]], Figure],
    page: Callable[[list[Row], str], str],
) -> None:
    picture = order.output.with_suffix(".png")

    def written(runs: Runs) -> str:
        try:
            rows = [from_json(kind, run, key) for key, run in runs.items()]
        except ValueError as error:
            raise UserError(f"the finished rows are damaged: {error}") from None
        if shown := [row for row in rows if not row.refused]:
            save(functools.partial(figure, shown), picture)
        return page(rows, picture.name)

    measure_detectors_of(order, usual, measure, written)


def _curves(bench: Bench, detector: Detector, config: Config, ground: Run) -> Record:
    """AUROC by condition at every radius, mean over the far sets."""
    assert ground.splits is not None
    settings = settings_at(config, bench.processes, **ATTACKS[bench.setting.scale][0])
    sets = limited_sets(ground.splits, config)
    points = []
    for factor in _FACTORS:
        epsilon = factor * settings.epsilon
        found = judge_far_sets(detector, sets, dataclasses.replace(settings, epsilon=epsilon))
        points.append({"epsilon": epsilon, **found["mean"]})
    clean = {"epsilon": 0.0, **dict.fromkeys(CONDITIONS, points[0]["clean"])}
    return {"points": [clean, *points], "attack": words_of(found), "images": len(sets.id_test)}


def _shifts(bench: Bench, detector: Detector, config: Config, ground: Run) -> Record:
    """Histograms of all scores of either side, clean and attacked; the far sets are pooled."""
    assert ground.splits is not None
    settings = settings_at(config, bench.processes, **ATTACKS[bench.setting.scale][0])
    sets = limited_sets(ground.splits, config)
    # An evaluation's attack stops where metrics cannot change any more; this one goes on.
    lowered = [Job(sets.ood_test[name], -1, settings.attack()) for name in averaged_sets(sets)]
    jobs = [Job(sets.id_test, 1, settings.attack()), *lowered]
    inside, *outside = settings.score_sets(detector, jobs)
    scores = {
        "ID, clean": inside.clean,
        "ID, attacked": inside.attacked,
        "OOD, clean": np.concatenate([scored.clean for scored in outside]),
        "OOD, attacked": np.concatenate([scored.attacked for scored in outside]),
    }
    everything = np.concatenate([*scores.values()])
    low, high = np.quantile(everything, [_OUTERMOST, 1 - _OUTERMOST])
    bins = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    shares = {
        name: (np.histogram(some.clip(bins[0], bins[-1]), bins)[0] / len(some)).round(4).tolist()
        for name, some in scores.items()
    }
    pairs = {"clean": ("clean", "clean"), "in": ("attacked", "clean")}
    pairs |= {"out": ("clean", "attacked"), "both": ("attacked", "attacked")}
    return {
        "low": float(bins[0]),
        "high": float(bins[-1]),
        "shares": shares,
        "medians": {name: float(np.median(some)) for name, some in scores.items()},
        "auroc": {
            condition: auroc(scores[f"ID, {one}"], scores[f"OOD, {other}"])
            for condition, (one, other) in pairs.items()
        },
        "attack": words_of({"attack": attack_facts(settings)}),
        "images": len(sets.id_test),
    }

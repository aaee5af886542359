"""Every kind of detector on one backbone a seed, judged under one attack, as pages of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from atd.detectors.kinds import kind_class
from atd.experiments.bench import Bench
from atd.experiments.missing import Runs, run_missing, typed
from atd.experiments.order import Order
from atd.experiments.setting import Setting
from atd.experiments.variants import DEFAULTS, TRAININGS, variant
from atd.reporting.detectors_page import detectors_page, objectives_page
from atd.reporting.kind_rows import KindRow

__all__ = ["measure_detectors", "reproduce_detectors", "reproduce_objectives"]


def reproduce_detectors(order: Order) -> None:
    """Makes the page of all kinds, or of the rows that were named."""
    _reproduce(order, "detectors")


def reproduce_objectives(order: Order) -> None:
    """Makes the page of all trainings, or of the rows that were named."""
    _reproduce(order, "objectives")


def _reproduce(order: Order, what: str) -> None:
    rows, place = order.kinds or DEFAULTS[what], {"output": order.output, "work": order.work}
    measure_detectors(order.setting, rows, order.seeds, **place, what=what)


def measure_detectors(
    setting: Setting,
    rows: Sequence[str],
    seeds: Sequence[int],
    *,
    output: Path,
    work: Path,
    what: str = "detectors",
) -> None:
    """Measures the rows that the JSON file beside a page lacks, and writes the page.

    Args:
        setting: The config and its scale.
        rows: See `atd.experiments.variants`.
        seeds: The backbone of each is trained once for all rows that read it.
        output: The page; it may hold tables of other settings.
        work: Where run folders go.
        what: Which page: `detectors` or `objectives`.

    Raises:
        UserError: Bad options; finished rows are of another config of that name; a damaged file.
    """
    names = {f"{setting.name}/{row}": row for row in sorted(rows, key=_quick_first)}
    bench = Bench(setting, work)
    run_missing(
        output,
        names,
        seeds,
        setting=setting,
        configure=lambda key, seed: bench.config(names[key], seed),
        measure=lambda key, config: bench.row(names[key], config),
        page=lambda runs: _page(runs, what),
    )


def _quick_first(name: str) -> tuple[int, float]:
    """Backbone by backbone, so that none is read twice, and kinds that take few passes first."""
    row = variant(name)
    place = list(TRAININGS).index(row.training) if row.training else -1
    return place, kind_class(row.kind).info.passes or math.inf


def _page(runs: Runs, what: str) -> str:
    make = {"detectors": detectors_page, "objectives": objectives_page}[what]
    return make(typed(KindRow, runs), DEFAULTS[what])

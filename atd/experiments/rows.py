"""Detectors of an order, each made and measured with every seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atd.config import Config
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.experiments.bench import Bench
from atd.experiments.missing import Record, Runs, run_missing
from atd.experiments.order import Order
from atd.experiments.variants import variant
from atd.pipeline import Run
from atd.records import to_json

__all__ = ["Measure", "measure_detectors_of"]

Measure = Callable[[Bench, Detector, Config, Run], Record]
"""What is told of a detector: the bench, the detector, its options and the run of its backbone."""


def measure_detectors_of(
    order: Order, usual: Sequence[str], measure: Measure, page: Callable[[Runs], str]
) -> None:
    """Measures the detectors that the JSON file beside a page lacks, and writes the page.

    Args:
        order: What was asked for.
        usual: The rows where none are named, see `atd.experiments.variants`.
        measure: Tells what came of a detector; setting, name and provenance are told besides.
        page: The page of all runs so far.

    Raises:
        UserError: Bad options, or a damaged file. A detector that cannot be made is a refused row.
    """
    bench = Bench(order.setting, order.work)
    names = {f"{order.setting.name}/{name}": name for name in order.kinds or usual}

    def measured(row: str, config: Config) -> Record:
        name = names[row]
        told = {**to_json(order.setting), "name": name}
        ground = bench.ground(variant(name).training, config.run.seed)
        try:
            detector = bench.detector(name, config, ground)
            return {**told, **measure(bench, detector, config, ground)}
        except UserError as error:  # of this detector: the others go on
            return {**told, "refused": str(error)}

    run_missing(
        order.output,
        names,
        order.seeds,
        setting=order.setting,
        configure=lambda row, seed: bench.config(names[row], seed),
        measure=measured,
        page=page,
    )

"""The certified AUROC of detectors on the backbones of a setting, as a page with a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from atd.config import Config
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.certificate import certify
from atd.evaluation.judgement import PROBED, averaged_sets
from atd.evaluation.subset import Sides
from atd.experiments.bench import Bench
from atd.experiments.far_sets import limited_sets, settings_at
from atd.experiments.missing import Record, Runs
from atd.experiments.order import Order
from atd.experiments.rows import measure_detectors_of
from atd.pipeline import Run
from atd.records import from_json, to_json
from atd.reporting.certificate_page import CertifiedRow, certificate_page, certificates_figure
from atd.reporting.drawing import save

__all__ = ["reproduce_certificate"]


def reproduce_certificate(order: Order) -> None:
    """Makes the page of certificates; of ATD's detector, where no kind is named."""
    measure_detectors_of(order, ("atd",), _measure, lambda runs: _page(runs, order.output))


def _measure(bench: Bench, detector: Detector, config: Config, ground: Run) -> Record:
    assert ground.splits is not None
    sets = limited_sets(ground.splits, config)
    settings = dataclasses.replace(
        settings_at(config, bench.processes, certify=True), cache=ground.folder.state / "scores"
    )
    averaged = averaged_sets(sets)
    sides = Sides.of(sets.id_test, [sets.ood_test[name] for name in averaged], PROBED)
    assert settings.smoothing is not None
    found = certify(
        detector, sets, averaged, sides, settings.smoothing, settings, lambda passes: None
    )
    return {"certificate": to_json(found)}


def _page(runs: Runs, output: Path) -> str:
    try:
        rows = [from_json(CertifiedRow, run, key) for key, run in runs.items()]
    except ValueError as error:
        raise UserError(f"the finished rows are damaged: {error}") from None
    picture = output.with_suffix(".png")
    if any(row.certificate for row in rows):
        save(lambda: certificates_figure(rows), picture)
    return certificate_page(rows, picture.name)

"""The certified AUROC of detectors on the backbones of a setting, as a page with a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from atd.config import Config
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.certificate import certify
from atd.evaluation.certified import Certificate
from atd.evaluation.judgement import PROBED, averaged_sets
from atd.evaluation.settings import smoothing_of
from atd.evaluation.subset import Sides
from atd.experiments.bench import Bench
from atd.experiments.far_sets import limited_sets, settings_at
from atd.experiments.missing import Record, Runs, run_missing
from atd.experiments.order import Order
from atd.pipeline import Run
from atd.records import from_json, to_json
from atd.reporting.certificate_page import CertifiedRow, certificate_page, certificates_figure
from atd.reporting.drawing import save

__all__ = ["reproduce_certificate"]


def reproduce_certificate(order: Order) -> None:
    """Makes the page of certificates; of ATD's detector, where no kind is named."""
    bench = Bench(order.setting, order.work)
    names = {f"{order.setting.name}/{name}": name for name in order.kinds or ("atd",)}

    def configure(row: str, seed: int) -> Config:
        config = bench.config(names[row], seed)
        certified = dataclasses.replace(config.evaluate, certify=True)
        return dataclasses.replace(config, evaluate=certified)

    def measure(row: str, config: Config) -> Record:
        told = {**to_json(order.setting), "name": names[row]}
        ground = bench.ground(_training(names[row]), config.run.seed)
        try:
            detector = bench.detector(names[row], config, ground)
        except UserError as error:  # of this kind: the others go on
            return {**told, "refused": str(error)}
        return {**told, "certificate": to_json(_certificate(bench, detector, config, ground))}

    run_missing(
        order.output,
        names,
        order.seeds,
        configure=configure,
        measure=measure,
        page=lambda runs: _page(runs, order.output),
    )


def _training(name: str) -> str:
    return name.partition("@")[2]


def _certificate(bench: Bench, detector: Detector, config: Config, ground: Run) -> Certificate:
    assert ground.splits is not None
    sets = limited_sets(ground.splits, config)
    settings = dataclasses.replace(
        settings_at(config, bench.processes), cache=ground.folder.state / "scores"
    )
    averaged = averaged_sets(sets)
    sides = Sides.of(sets.id_test, [sets.ood_test[name] for name in averaged], PROBED)
    smoothing = smoothing_of(config.evaluate)
    assert smoothing is not None
    return certify(detector, sets, averaged, sides, smoothing, settings, lambda passes: None)


def _page(runs: Runs, output: Path) -> str:
    try:
        rows = [from_json(CertifiedRow, run, key) for key, run in runs.items()]
    except ValueError as error:
        raise UserError(f"the finished rows are damaged: {error}") from None
    picture = output.with_suffix(".png")
    if any(row.certificate for row in rows):
        save(lambda: certificates_figure(rows), picture)
    return certificate_page(rows, picture.name)

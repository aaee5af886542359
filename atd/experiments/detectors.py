"""Every kind of detector on one backbone a seed, judged under one attack, as a page of tables."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.detectors.base import Detector
from atd.detectors.kinds import KINDS, kind_class
from atd.errors import UserError, printable
from atd.evaluation.results import Results
from atd.evaluation.settings import settings_from
from atd.evaluation.several import evaluate_detectors
from atd.experiments.missing import Record, Runs, finished_runs, run_missing
from atd.experiments.order import Order
from atd.experiments.setting import Setting
from atd.pipeline import Run
from atd.records import from_json, to_json
from atd.reporting.detectors_page import KindRow, Speed, detectors_page
from atd.reporting.wording import plural
from atd.training.processes import Processes
from atd.training.tasks import fitted_detector

__all__ = ["Bench", "measure_detectors", "reproduce_detectors", "speed"]

_REFERENCE = "msp"
"""The kind that is fitted with the backbone, and whose speed stands beside that of the others."""

_TIMED = 256
"""Images whose scores are timed."""


def reproduce_detectors(order: Order) -> None:
    """Makes the page of detectors; all kinds, where none is named."""
    kinds = order.kinds or tuple(KINDS)
    measure_detectors(order.setting, kinds, order.seeds, output=order.output, work=order.work)


def measure_detectors(
    setting: Setting, kinds: Sequence[str], seeds: Sequence[int], *, output: Path, work: Path
) -> None:
    """Measures the kinds that the JSON file beside a page lacks, and writes the page.

    Args:
        setting: The config and its scale.
        kinds: Keys of `atd.detectors.kinds.KINDS`.
        seeds: The backbone of each is trained once for all kinds.
        output: The page; it may hold tables of other settings.
        work: Where run folders go.

    Raises:
        UserError: Bad options; finished rows are of another config of that name; a damaged file.
    """
    _require_same(setting, finished_runs(output.with_suffix(".json")), output)
    quick_first = sorted(kinds, key=lambda kind: kind_class(kind).info.passes or math.inf)
    names = {f"{setting.name}/{kind}": kind for kind in quick_first}
    bench = Bench(setting, work)

    def configure(row: str, seed: int) -> Config:
        return setting.resolved(names[row], seed, bench.folder(seed))

    def measure(row: str, config: Config) -> Record:
        return bench.row(names[row], config)

    run_missing(output, names, seeds, configure=configure, measure=measure, page=_page)


def _require_same(setting: Setting, runs: Runs, output: Path) -> None:
    """Configs of one name in several folders are not to be taken for one another."""
    for key, run in runs.items():
        if key.startswith(f"{setting.name}/") and run.get("config") != setting.config:
            raise UserError(
                f"{output.with_suffix('.json')}: its rows of {setting.name} are of "
                f"{printable(str(run.get('config')))}; choose another --output and --work"
            )


def _page(runs: Runs) -> str:
    try:
        return detectors_page({key: from_json(KindRow, run, key) for key, run in runs.items()})
    except ValueError as error:
        raise UserError(f"the finished rows are damaged: {error}") from None


class Bench:
    """Detectors of all kinds on the backbones of a setting, made and judged.

    Args:
        setting: The config and its scale.
        work: Where run folders go.
    """

    def __init__(self, setting: Setting, work: Path) -> None:
        self.setting, self.work = setting, work
        self.ground = functools.lru_cache(maxsize=1)(self._ground)

    @functools.cached_property
    def processes(self) -> Processes:
        """The process that does the work."""
        run = self.setting.resolved(_REFERENCE, 0, self.folder(0)).run
        return Processes(run.device, run.timeout_minutes)

    def folder(self, seed: int, part: str = "") -> Path:
        """The run folder of a seed."""
        return self.work / f"{self.setting.name}-{seed}{part}"

    def _ground(self, seed: int) -> Run:
        """A run up to its fitted detector, whose backbone all kinds read."""
        config = self.setting.resolved(_REFERENCE, seed, self.folder(seed))
        run = Run(config, self.processes).until("fit")
        run.save_detector()
        return run

    def row(self, kind: str, config: Config) -> Record:
        """Makes a detector, judges it and times it.

        Args:
            kind: A key of `atd.detectors.kinds.KINDS`.
            config: Its options.

        Returns:
            A `KindRow` as JSON, less its provenance.
        """
        ground = self.ground(config.run.seed)
        told = {
            **to_json(self.setting),
            "kind": kind,
            "options": self.setting.options_of(kind),
            "backbone": _backbone_words(ground.config),
        }
        try:
            detector = self.detector(kind, config, ground)
            results = self.judged(kind, detector, config, ground)
        except UserError as error:  # of this kind: the backbone and the images are there
            return {**told, "refused": str(error)}
        assert ground.detector is not None
        assert ground.splits is not None
        some = ground.splits.id_test.take(_TIMED, 0)
        timed = speed(detector, ground.detector, some.fetch(range(len(some))))
        return {
            **told,
            "mean": to_json(results.mean),
            "mean_over": list(results.mean_over),
            "images": results.id.images,
            "attack": to_json(results.attack),
            "verdict": results.verdict,
            "speed": to_json(timed),
        }

    def detector(self, kind: str, config: Config, ground: Run) -> Detector:
        """A trained or fitted detector on the backbone of a run."""
        assert ground.detector is not None
        assert ground.backbone is not None
        if kind == _REFERENCE:
            return ground.detector
        if "training" not in kind_class(kind).info.needs:
            given = dataclasses.replace(ground.ingredients, config=config)
            return fitted_detector(given, ground.backbone)
        seed, weights = config.run.seed, f"backbone.weights={ground.folder.detector}"
        own = self.setting.resolved(kind, seed, self.folder(seed, f"-{kind}"), weights)
        return Run(own, self.processes, ground.splits).train()[0]

    def judged(self, kind: str, detector: Detector, config: Config, ground: Run) -> Results:
        """What the evaluation's own attack and checks find."""
        assert ground.splits is not None
        settings = settings_from(
            config,
            device=self.processes.device,
            accelerator=self.processes.accelerator,
            cache=ground.folder.state / "scores",
        )
        sets = EvaluationSets.of(ground.splits)
        (found,) = evaluate_detectors({kind: detector}, sets, settings, config)
        return found.results


def _backbone_words(config: Config) -> str:
    """The backbone and how it was made, in one phrase."""
    network, training = config.backbone, config.pretrain
    if network.weights:
        return f"{network.architecture}, weights of {network.weights}"
    return (
        f"{network.architecture}, width {network.width}, {network.activation}, "
        f"pretrain.objective={training.objective}, {plural(training.epochs, 'epoch')}, "
        f"epsilon {training.epsilon:.4f}"
    )


def speed(
    detector: Detector,
    reference: Detector,
    images: Tensor,
    *,
    turns: int = 3,
    seconds: float = 0.2,
) -> Speed:
    """Images per second of `score`, beside those of another detector in the same minute.

    Args:
        detector: The detector.
        reference: What it is compared with.
        images: uint8 images (N, C, H, W).
        turns: Times that each is measured, one after the other; the best counts.
        seconds: How long each is measured at least.

    Returns:
        Both speeds.
    """

    def once(scorer: Detector) -> float:
        started, count, passed = time.perf_counter(), 0, 0.0
        while passed < seconds or not count:
            scorer.score(images)
            count += len(images)
            passed = time.perf_counter() - started
        return count / passed

    for scorer in (detector, reference):
        scorer.score(images[:8])  # what is built once counts for nothing
    pairs = [(once(detector), once(reference)) for _ in range(turns)]
    ours, theirs = (max(column) for column in zip(*pairs, strict=True))
    return Speed(images_per_second=ours, of_msp=theirs)

"""Detectors on the backbones of a setting: made, and judged by the evaluation's own attack."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.data.images import ImageSet, join, pick
from atd.data.splits import DataSplits, load_splits
from atd.detectors.base import Detector
from atd.detectors.kinds import kind_class
from atd.errors import UserError
from atd.evaluation.checks import verdict
from atd.evaluation.protocol import Evaluation
from atd.evaluation.settings import settings_from
from atd.evaluation.several import evaluate_detectors
from atd.experiments.missing import Record
from atd.experiments.setting import Setting
from atd.experiments.variants import TRAININGS, FittedTo, Variant, variant
from atd.metrics import CONDITIONS, mean_auroc_interval, mean_metrics
from atd.pipeline import Run
from atd.records import to_json
from atd.reporting.wording import plural
from atd.run_folder import RunFolder
from atd.training.fits import fitted_detector
from atd.training.processes import Processes

__all__ = ["REFERENCE", "Bench", "backbone_words", "fitting_sets", "summary"]

REFERENCE = "msp"
"""The kind that is fitted with the backbone."""


class Bench:
    """Detectors of all kinds on the backbones of a setting.

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
        run = self.setting.resolved(REFERENCE, 0, self.work).run
        return Processes(run.device, run.timeout_minutes)

    def config(self, name: str, seed: int) -> Config:
        """The options of a row with a seed."""
        row = variant(name)
        return self._resolved(row, seed, self.folder(row.training, seed))

    def _resolved(self, row: Variant, seed: int, folder: Path, *more: str) -> Config:
        words = [*TRAININGS.get(row.training, ()), *row.options, *more]
        return self.setting.resolved(row.kind, seed, folder, *words)

    def folder(self, training: str, seed: int, part: str = "") -> Path:
        """The run folder of a backbone, or of something trained on it."""
        at = f"@{training}" if training else ""
        return self.work / f"{self.setting.name}{at}-{seed}{part}"

    def _ground(self, training: str, seed: int) -> Run:
        """A run up to a fitted detector, whose backbone all kinds read."""
        reference = Variant(REFERENCE, training=training)
        config = self._resolved(reference, seed, self.folder(training, seed))
        folder = RunFolder(config.run.folder)
        # With outliers, which other rows on this backbone learn from.
        splits = load_splits(config, folder.set_names())
        run = Run(config, self.processes, splits).until("fit")
        run.save_detector()
        return run

    def row(self, name: str, config: Config) -> Record:
        """Makes a detector and judges it.

        Args:
            name: A row, see `atd.experiments.variants`.
            config: Its options.

        Returns:
            A `KindRow` as JSON, less its provenance.
        """
        row = variant(name)
        ground = self.ground(row.training, config.run.seed)
        told = {
            **to_json(self.setting),
            "kind": row.kind,
            "variant": name,
            "note": row.note,
            "training": row.training,
            "options": [*self.setting.options_of(row.kind), *row.options],
            "backbone": backbone_words(ground.config),
        }
        try:
            return {**told, **summary(self.judged(name, config, ground))}
        except UserError as error:  # of this kind: the backbone and the images are there
            return {**told, "refused": str(error)}

    def judged(self, name: str, config: Config, ground: Run) -> list[Evaluation]:
        """What the evaluation finds: of one detector, or of one for each test set."""
        assert ground.splits is not None
        row, splits = variant(name), ground.splits
        sets = EvaluationSets.of(splits)
        if row.fitted_to == "outliers":
            detector = self.detector(name, config, ground)
            return [self._evaluated(row.kind, detector, sets, config, ground)]
        found = []
        for anomaly, given in fitting_sets(row.fitted_to, sets, config):
            fitted_to = dataclasses.replace(splits, outlier_train=given)
            detector = self.detector(name, config, ground, fitted_to=fitted_to)
            only = dataclasses.replace(sets, ood_test={anomaly: sets.ood_test[anomaly]})
            found.append(self._evaluated(row.kind, detector, only, config, ground))
        return found

    def detector(
        self, name: str, config: Config, ground: Run, *, fitted_to: DataSplits | None = None
    ) -> Detector:
        """A trained or fitted detector on the backbone of a run."""
        assert ground.detector is not None
        assert ground.backbone is not None
        if name.partition("@")[0] == REFERENCE:
            return ground.detector
        row = variant(name)
        if "training" not in kind_class(row.kind).info.needs:
            splits = fitted_to or ground.splits
            assert splits is not None
            given = dataclasses.replace(ground.ingredients, config=config, splits=splits)
            return fitted_detector(given, ground.backbone)
        seed, weights = config.run.seed, f"backbone.weights={ground.folder.detector}"
        part = "-" + name.partition("@")[0].replace(":", "-")
        own = self._resolved(row, seed, self.folder(row.training, seed, part), weights)
        return Run(own, self.processes, ground.splits).train()[0]

    def _evaluated(
        self, kind: str, detector: Detector, sets: EvaluationSets, config: Config, ground: Run
    ) -> Evaluation:
        settings = settings_from(
            config,
            device=self.processes.device,
            accelerator=self.processes.accelerator,
            cache=ground.folder.state / "scores",
        )
        (found,) = evaluate_detectors({kind: detector}, sets, settings, config)
        return found


def fitting_sets(
    fitted_to: FittedTo, sets: EvaluationSets, config: Config
) -> Iterator[tuple[str, ImageSet]]:
    """Each far test set, and what a detector is fitted to that is judged on it."""
    limit, seed = config.evaluate.limit, config.run.seed
    far = {name: images for name, images in sets.ood_test.items() if sets.roles[name] == "far"}
    for name, images in far.items():
        if fitted_to == "itself":
            rest = images.subset(pick(images.labels, limit or len(images), seed, images.name)[1])
            if not len(rest):
                raise UserError(
                    f"evaluate.limit={limit}: all images of {name} are judged, and none is left to "
                    "fit a detector to; lower it"
                )
            yield name, rest
        elif len(far) > 1:
            yield name, join([other for key, other in far.items() if key != name], "anomalies")
        else:
            raise UserError(
                f"data.ood_test: {name} is the only far set; leaving it out leaves none"
            )


def summary(found: Sequence[Evaluation]) -> Record:
    """Evaluations of a row in one: means over all sets, and every check that failed.

    Args:
        found: One evaluation, or several on the same ID images.
    """
    results = [item.results for item in found]
    failed = {
        name: check for item in results for name, check in item.checks.items() if not check.passed
    }
    return {
        "mean": {
            condition: mean_metrics([item.mean[condition] for item in results])
            for condition in CONDITIONS
        },
        "intervals": intervals(found),
        "mean_over": [name for item in results for name in item.mean_over],
        "images": results[0].id.images,
        "attack": to_json(results[0].attack),
        "verdict": verdict(failed),
    }


def intervals(found: Sequence[Evaluation]) -> dict[str, list[float]]:
    """95 % intervals over images of the mean AUROC, by condition."""
    pairs = [(item.id_test, item.ood[name]) for item in found for name in item.results.mean_over]
    return {
        condition: mean_auroc_interval(
            [
                (
                    inside.attacked if condition in ("in", "both") else inside.clean,
                    outside.attacked if condition in ("out", "both") else outside.clean,
                )
                for inside, outside in pairs
            ]
        )
        for condition in CONDITIONS
    }


def backbone_words(config: Config) -> str:
    """The backbone and how it was made, in one phrase."""
    network, training = config.backbone, config.pretrain
    if network.weights:
        return f"{network.architecture}, weights of {network.weights}"
    foreign = ":" in network.architecture
    own = "" if foreign else f"width {network.width}, {network.activation}, "
    return (
        f"{network.architecture}, {own}pretrain.objective={training.objective}, "
        f"{plural(training.epochs, 'epoch')}, epsilon {training.epsilon:.4f}"
    )

"""A run as a list of stages: helper, robust pre-training, ATD, evaluation, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from atd import plan
from atd.backbones import Backbone, allow_import
from atd.backbones.weights import load_weights, require_weights
from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.data.fingerprint import fingerprint_images
from atd.data.splits import DataSplits, load_splits
from atd.detectors.base import Detector
from atd.evaluation.settings import settings_from
from atd.evaluation.several import evaluate_detectors
from atd.records import to_json
from atd.reporting.card import model_card
from atd.reporting.report import write_report
from atd.run_folder import RunFolder
from atd.training.contact import in_contact
from atd.training.logbook import Logbook
from atd.training.loop import Task, train_task
from atd.training.objectives import objective_of
from atd.training.processes import Processes
from atd.training.rank_log import RankLog
from atd.training.tasks import (
    Ingredients,
    adversarial_gan,
    robust_pretraining,
    untrained_backbone,
)

if TYPE_CHECKING:
    from atd.evaluation.protocol import Evaluation
    from atd.evaluation.results import Results

__all__ = ["STAGES", "Run", "Stage", "stages_of"]


class Run:
    """A run from its config to an evaluated detector, and what its stages have made so far.

    Args:
        config: All options.
        processes: The processes that share the work.
        splits: The image sets, if they are already at hand.

    Attributes:
        helper: HAT's helper, trained.
        backbone: The pre-trained backbone, which no later stage changes; None for a
            discriminator of pixels.
        detector: The detector.
        evaluation: What was found about it.
    """

    def __init__(
        self, config: Config, processes: Processes, splits: DataSplits | None = None
    ) -> None:
        self.config, self.processes, self.splits = config, processes, splits
        self.folder = RunFolder(config.run.folder)
        rank_log = self.folder.rank_log(processes.rank)
        self.log = RankLog(rank_log if config.run.rank_logs else None)
        self.logbook = Logbook(None)
        self.helper: Backbone | None = None
        self.backbone: Backbone | None = None
        self.detector: Detector | None = None
        self.evaluation: Evaluation | None = None
        allow_import(config.backbone.architecture)
        torch.manual_seed(config.run.seed)
        torch.use_deterministic_algorithms(config.run.deterministic, warn_only=True)
        torch.backends.cudnn.benchmark = not config.run.deterministic

    def execute(self) -> Results:
        """Runs all stages that are not finished yet.

        Returns:
            The results of the evaluation.

        Raises:
            UserError: Bad input; what was there before stays intact.
            Interrupted: A signal asked to stop; the state was saved.
            LostContact: Another process died or hangs.
        """
        self.until("report")
        assert self.evaluation is not None
        return self.evaluation.results

    def train(self) -> tuple[Detector, Backbone | None, DataSplits]:
        """Runs the stages that make the detector, unless they are finished.

        Returns:
            The detector, the pre-trained backbone and the image sets.

        Raises:
            UserError: As `execute`, and so the other exceptions.
        """
        self.until("atd")
        assert self.detector is not None
        assert self.splits is not None
        return self.detector, self.backbone, self.splits

    def until(self, last: str) -> Run:
        """Runs the stages up to one of them; stages that are finished give what they made.

        Args:
            last: The name of a stage; later ones are left for another time.

        Returns:
            The run itself.

        Raises:
            UserError: As `execute`, and so the other exceptions.
        """
        names = [stage.name for stage in STAGES]
        wanted = set(names[: names.index(last) + 1])
        place = "the preparation"
        with self.log, in_contact(self.processes, lambda: place):
            self._prepare()
            try:
                for stage in stages_of(self.config):
                    if stage.name in wanted:
                        place = f"stage {stage.name}"
                        self.log.write(place)
                        stage.work(self)
            finally:
                self.logbook.close()
            self.log.write("finished")
        return self

    def _prepare(self) -> None:
        """Claims the folder and reads the images."""
        self.processes.on_main(lambda: self.folder.claim(self.config))
        self.log.start(self.processes)
        if _takes_weights(self.config):
            require_weights(Path(self.config.backbone.weights))
        if self.splits is None:
            names = self.processes.agree(self.folder.set_names())
            with self.processes.accelerator.main_process_first():
                self.splits = load_splits(self.config, names)
        found = fingerprint_images(self.splits)
        self.processes.on_main(lambda: self.folder.claim_images(found, self.config))
        self.logbook = Logbook(self.folder.path if self.processes.is_main else None, self.log)
        self.say(describe(self.splits))

    @property
    def ingredients(self) -> Ingredients:
        """What training tasks are made of."""
        assert self.splits is not None, "the image sets have not been read"
        return Ingredients(self.config, self.splits, self.processes)

    def train_task(self, task: Task, *, extendable: bool = False) -> None:
        """Trains a task to its end, from the start or from its saved state.

        Args:
            task: The task.
            extendable: Whether its training may go on later for more epochs.
        """
        train_task(
            task,
            self.folder.state,
            self.processes,
            self.logbook,
            keep=self.config.run.keep,
            save_minutes=self.config.run.save_minutes,
            extendable=extendable,
        )

    def say(self, text: str) -> None:
        """Tells the user something, once."""
        self.log.write(text)
        if self.processes.is_main:
            tqdm.write(text)

    def save_detector(self, card: str = "") -> None:
        """Writes the detector folder, on the main process; the others wait."""
        detector = self.detector
        assert detector is not None
        self.processes.on_main(lambda: detector.save_pretrained(self.folder.detector, card))


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Its name, also of its states and in messages.
        needs: The attributes of `Run` that it takes, made by stages before it.
        makes: The attribute of `Run` that it sets.
        leaves: What it leaves in the run folder.
        applies: Whether a run with these options has it.
        work: Does it.
        plan: Says in a few words what it does.
    """

    name: str
    needs: tuple[str, ...]
    makes: str
    leaves: tuple[str, ...]
    applies: Callable[[Config], bool]
    work: Callable[[Run], None]
    plan: Callable[[Config], str]


def stages_of(config: Config) -> list[Stage]:
    """The stages of a run with these options, in their order."""
    return [stage for stage in STAGES if stage.applies(config)]


def _pretrains(config: Config) -> bool:
    return config.atd.features == "backbone" and not config.backbone.weights


def _needs_helper(config: Config) -> bool:
    return _pretrains(config) and objective_of(config.pretrain.objective).helped


def _takes_weights(config: Config) -> bool:
    return config.atd.features == "backbone" and bool(config.backbone.weights)


def _always(_: Config) -> bool:
    return True


def _helper(run: Run) -> None:
    run.helper = untrained_backbone(run.ingredients, helper=True)
    run.train_task(robust_pretraining(run.ingredients, "helper", run.helper))


def _pretrain(run: Run) -> None:
    if not run.ingredients.splits.id_train.classes:
        run.say(
            "The ID images have no labels: pre-training is rotation prediction, which learns to "
            "tell robustly by which multiple of 90 degrees an image was rotated."
        )
    run.backbone = untrained_backbone(run.ingredients)
    run.train_task(robust_pretraining(run.ingredients, "pretrain", run.backbone, run.helper))
    run.helper = None  # no later stage needs it, and it takes memory


def _weights(run: Run) -> None:
    run.backbone = untrained_backbone(run.ingredients)
    options = run.config.backbone
    loaded = load_weights(
        run.backbone, options.weights, needs_head=False, keep_normalisation=bool(options.mean)
    )
    for notice in loaded.notices:
        run.say(notice)
    if not loaded.head:
        # Scores of class logits would mean nothing.
        evaluate = run.config.evaluate
        kept = [name for name in evaluate.baselines if "mahalanobis" in name]
        run.config = dataclasses.replace(
            run.config, evaluate=dataclasses.replace(evaluate, baselines=kept)
        )


def _atd(run: Run) -> None:
    task = adversarial_gan(run.ingredients, run.backbone)
    run.train_task(task, extendable=run.config.atd.step_schedule == "constant")
    run.detector = task.detector.requires_grad_(False).eval()


def _evaluate(run: Run) -> None:
    """Judges the detector, and sets its threshold by what was found."""
    detector, splits = run.detector, run.splits
    assert detector is not None
    assert splits is not None
    run.save_detector()
    settings = settings_from(
        run.config,
        device=run.processes.device,
        accelerator=run.processes.accelerator,
        cache=run.folder.state / "scores",
        progress=run.processes.is_main,
    )
    name = run.config.run.name
    (found,) = evaluate_detectors(
        {name: detector},
        EvaluationSets.of(splits),
        settings,
        run.config,
        paths={name: run.folder.detector},
        backbone=run.backbone,
    )
    detector.config = dataclasses.replace(
        detector.config,
        threshold=found.results.threshold.value,
        threshold_note="accepts 95 % of clean held-out ID images",
        provenance=to_json(found.results.provenance),
    )
    run.save_detector(model_card(found.results))
    run.evaluation = found


def _report(run: Run) -> None:
    if run.processes.is_main:
        assert run.evaluation is not None
        write_report(run.evaluation, run.folder.report)
        run.folder.finish()
    run.processes.wait()


STAGES: tuple[Stage, ...] = (
    Stage("helper", (), "helper", ("state",), _needs_helper, _helper, plan.helper),
    Stage("pretrain", ("helper",), "backbone", ("state",), _pretrains, _pretrain, plan.pretrain),
    Stage("weights", (), "backbone", (), _takes_weights, _weights, plan.weights),
    Stage("atd", ("backbone",), "detector", ("state",), _always, _atd, plan.atd),
    Stage(
        "evaluate",
        ("detector", "backbone"),
        "evaluation",
        ("detector",),
        _always,
        _evaluate,
        plan.evaluate,
    ),
    Stage("report", ("evaluation",), "", ("report",), _always, _report, plan.report),
)
"""All stages in their order; a run has those that apply to its options."""


def describe(splits: DataSplits) -> str:
    """The image sets and their sizes, in a few lines."""
    rows = [
        ("in-distribution", splits.id_train, splits.id_val, splits.id_test),
        ("outliers", splits.outlier_train, splits.outlier_val, None),
    ]
    lines = [
        f"{title}: {train.name}, {len(train)} for training, {len(val)} for validation"
        + (f", {len(test)} for the test" if test is not None else "")
        for title, train, val, test in rows
    ]
    tests = [f"{name} ({splits.roles[name]}, {len(s)})" for name, s in splits.ood_test.items()]
    return "\n".join([*lines, "OOD test sets: " + (", ".join(tests) or "none")])

"""A run as a list of stages: helper, robust pre-training, ATD or a fit, evaluation, report."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atd.backbones import Backbone
from atd.backbones.checkpoints import head_left_behind
from atd.backbones.weights import load_weights
from atd.config import Config, EvaluateConfig
from atd.data.evaluation_sets import EvaluationSets
from atd.data.ood_tests import required_tests
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.detectors.calibration import CalibrationSample
from atd.detectors.kinds import kind_class
from atd.errors import UserError
from atd.evaluation.expense import richest_evaluation, seconds_per_step
from atd.evaluation.settings import settings_from
from atd.evaluation.several import evaluate_detectors
from atd.planning import plan
from atd.planning.budget import shortened
from atd.records import to_json
from atd.reporting.card import model_card
from atd.reporting.report import write_report
from atd.run_state import RunState
from atd.training.checkpoint import state_file
from atd.training.contact import in_contact
from atd.training.fits import fitted_detector, untrained_backbone
from atd.training.tasks import adversarial_gan, robust_pretraining

if TYPE_CHECKING:
    from atd.evaluation.results import Results

__all__ = ["STAGES", "Run", "Stage", "given_weights", "stages_of"]


class Run(RunState):
    """A run from its config to an evaluated detector (see `RunState`)."""

    def execute(self) -> Results:
        """Runs all stages that are not finished yet.

        Returns:
            The results of the evaluation.

        Raises:
            UserError: Bad input; what was there before stays intact.
            Interrupted: A signal asked to stop; the state was saved.
            LostContact: Another process died or hangs.
        """
        required_tests(self.config.data)  # found before the training, not after it
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
        self.until("fit")
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
            self.prepare()
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


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Its name, also of its states and in messages.
        needs: The attributes of `Run` that it takes, made by stages before it.
        makes: The attribute of `Run` that it sets.
        applies: Whether a run with these options has it.
        work: Does it.
        plan: Says in a few words what it does.
    """

    name: str
    needs: tuple[str, ...]
    makes: str
    applies: Callable[[Config], bool]
    work: Callable[[RunState], None]
    plan: Callable[[Config], str]


def stages_of(config: Config) -> list[Stage]:
    """The stages of a run with these options, in their order."""
    return [stage for stage in STAGES if stage.applies(config)]


def _is_fitted(config: Config) -> bool:
    return not plan.is_atd(config)


def _always(_: Config) -> bool:
    return True


def _helper(run: RunState) -> None:
    run.helper = untrained_backbone(run.ingredients, helper=True)
    run.train_task(robust_pretraining(run.ingredients, "helper", run.helper))


def _pretrain(run: RunState) -> None:
    if not run.ingredients.splits.id_train.classes:
        run.say(
            "The ID images have no labels: pre-training is rotation prediction, which learns to "
            "tell robustly by which multiple of 90 degrees an image was rotated."
        )
    run.backbone = untrained_backbone(run.ingredients)
    run.train_task(robust_pretraining(run.ingredients, "pretrain", run.backbone, run.helper))
    run.helper = None  # no later stage needs it, and it takes memory


def given_weights(run: RunState) -> None:
    """Gives a run its backbone from `backbone.weights`.

    Raises:
        UserError: The weights are not what they should be, or do not fit.
    """
    run.backbone = untrained_backbone(run.ingredients)
    options = run.config.backbone
    needs_head = "logits" in kind_class(run.config.detector_kind).info.needs
    loaded = load_weights(
        run.backbone,
        options.weights,
        needs_head=needs_head,
        keep_normalisation=bool(options.mean),
    )
    if needs_head and run.backbone.lacks_head:  # as of a detector on weights without one
        raise UserError(
            f"{options.weights}: the class logits of this network are all zero, and "
            f"detector.kind={run.config.detector_kind} reads them; choose a kind that reads "
            "features (atd, mahalanobis, knn) or weights with a trained head"
        )
    for notice in loaded.notices:
        run.say(notice)


def _fit(run: RunState) -> None:
    assert run.backbone is not None
    run.detector = fitted_detector(run.ingredients, run.backbone.eval().requires_grad_(False))


def _atd(run: RunState) -> None:
    _settle_atd(run)
    task = adversarial_gan(run.ingredients, run.backbone)
    run.train_task(task, extendable=run.config.atd.step_schedule == "constant")
    run.detector = task.detector.requires_grad_(False).eval()


def _evaluate(run: RunState) -> None:
    """Judges the detector, and sets its threshold by what was found."""
    detector, splits = run.detector, run.splits
    assert detector is not None
    assert splits is not None
    run.keep_or_save_detector()
    _settle_evaluation(run, detector, splits)
    settings = settings_from(
        run.config,
        device=run.processes.device,
        accelerator=run.processes.accelerator,
        cache=run.folder.state / "scores",
        progress=run.processes.is_main,
    )
    name = detector.config.name
    words = ["python", "evaluate.py", run.folder.detector, "--config", run.folder.config]
    # Its baselines are those of the backbone before fine-tuning, which the detector does not hold.
    alone = head_left_behind(detector.kind, dataclasses.asdict(run.config))
    (found,) = evaluate_detectors(
        {name: detector},
        EvaluationSets.of(splits),
        settings,
        run.config,
        paths={name: run.folder.detector},
        backbone=run.backbone,
        command="" if alone and run.config.evaluate.baselines else shlex.join(map(str, words)),
    )
    detector.config = dataclasses.replace(
        detector.config,
        threshold=found.results.threshold.value,
        threshold_note=found.results.threshold.note or "accepts 95 % of the ID test images",
        training=dataclasses.asdict(run.config),  # a budget has fitted the evaluation since
        provenance=to_json(found.results.provenance),
    )
    if len(found.id_val) and not detector.config.calibration:
        detector.calibration = CalibrationSample(torch.from_numpy(found.id_val).float())
    run.save_detector(model_card(found.results, detector.config))
    run.evaluation = found


def _settle_atd(run: RunState) -> None:
    """Shortens a training that has not begun where the run is behind its plan."""
    shorter = run.processes.agree(_shorter(run) if run.processes.is_main else None)
    if shorter is None:
        return
    if shorter != run.config:
        run.say(f"behind the plan: {shorter.atd.min_steps} steps of ATD")
    run.settle("atd", shorter)


def _shorter(run: RunState) -> Config | None:
    """The options with an ATD that fits what is left; None where that is settled."""
    begun = state_file(run.folder.state, "atd").exists()
    if not run.config.run.seconds or begun or "atd" in run.clock.settled:
        return None
    return shortened(run.config, run.clock.spent)


def _settle_evaluation(run: RunState, detector: Detector, splits: DataSplits) -> None:
    """Fits the evaluation into what is left of the budget, once."""
    left = run.config.run.seconds - run.clock.spent
    found = _richest(run, detector, splits, left) if run.processes.is_main else None
    evaluate = run.processes.agree(found)
    if evaluate is None:
        return
    run.say(
        f"{max(0.0, left):.0f} s of the budget are left: tier {evaluate.tier}, "
        f"{evaluate.limit} images a set"
    )
    run.settle("evaluate", dataclasses.replace(run.config, evaluate=evaluate))


def _richest(
    run: RunState, detector: Detector, splits: DataSplits, seconds: float
) -> EvaluateConfig | None:
    """The evaluation that fits some time; None where it is settled."""
    config = run.config
    if not config.run.seconds or "evaluate" in run.clock.settled:
        return None
    return richest_evaluation(
        dataclasses.replace(config.evaluate, baselines=run.baselines),
        seconds_per_step(detector, run.processes.device),
        [len(images) for images in (splits.id_test, *splits.ood_test.values())],
        scores=kind_class(config.detector_kind).info.passes or 1.0,
        comparable=run.backbone is not None,
        seconds=seconds,
    )


def _report(run: RunState) -> None:
    if run.processes.is_main:
        assert run.evaluation is not None
        write_report(run.evaluation, run.folder.report)
        run.folder.finish()
    run.processes.wait()


STAGES: tuple[Stage, ...] = (
    Stage("helper", (), "helper", plan.needs_helper, _helper, plan.helper),
    Stage("pretrain", ("helper",), "backbone", plan.pretrains, _pretrain, plan.pretrain),
    Stage("weights", (), "backbone", plan.takes_weights, given_weights, plan.weights),
    Stage("atd", ("backbone",), "detector", plan.is_atd, _atd, plan.atd),
    Stage("fit", ("backbone",), "detector", _is_fitted, _fit, plan.fit),
    Stage("evaluate", ("detector", "backbone"), "evaluation", _always, _evaluate, plan.evaluate),
    Stage("report", ("evaluation",), "", _always, _report, plan.report),
)
"""All stages in their order; a run has those that apply to its options."""

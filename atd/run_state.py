"""What the stages of a run share: its options, images, folder and processes, and their products."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from atd.backbones import Backbone, allow_import
from atd.backbones.weights import require_weights
from atd.clock import Clock
from atd.config import Config
from atd.data.fingerprint import fingerprint_images
from atd.data.splits import DataSplits, load_splits
from atd.detectors.base import Detector
from atd.detectors.kinds import resolved
from atd.errors import UserError, printable
from atd.evaluation.cache import fingerprint
from atd.planning.plan import needs_outliers, takes_weights
from atd.planning.settling import settled
from atd.run_folder import RunFolder
from atd.training.adversarial_gan import AdversarialGan
from atd.training.ingredients import Ingredients
from atd.training.logbook import Logbook
from atd.training.loop import train_task
from atd.training.processes import Processes
from atd.training.rank_log import RankLog
from atd.training.robust_pretraining import RobustPretraining

if TYPE_CHECKING:
    from atd.evaluation.protocol import Evaluation

__all__ = ["RunState", "describe"]

_NAMED = 10
_DECIDED = ("threshold", "threshold_note", "calibration")


class RunState:
    """What the stages of a run work with, and what they have made so far.

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
        self.clock = Clock(config.run.folder)
        self.baselines = config.evaluate.baselines
        plan = settled(config)
        self.reasons, config = plan.reasons, resolved(plan.config)
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

    def prepare(self) -> None:
        """Claims the run's folder and reads the images.

        Raises:
            UserError: The folder is another run's, or the images are not what they should be.
        """
        self.processes.on_main(lambda: self.folder.claim(self.config))
        if self.config.run.seconds:  # only the main process's clock counts
            planned_now = bool(self.reasons)
            self.processes.on_main(lambda: self.clock.start(anew=planned_now))
        self.log.start(self.processes)
        for line in self.reasons:
            self.say(line)
        found = self.read_images()
        self.processes.on_main(lambda: self.folder.claim_images(found, self.config))
        self.logbook = Logbook(self.folder.path if self.processes.is_main else None, self.log)
        assert self.splits is not None
        self.say(describe(self.splits))

    def read_images(self) -> Mapping[str, Any]:
        """Reads the images, unless they are at hand.

        Returns:
            What tells them from others, see `fingerprint_images`.

        Raises:
            UserError: They are not what they should be, or there are no weights to start from.
        """
        if takes_weights(self.config):
            require_weights(Path(self.config.backbone.weights))
        if self.splits is None:
            names = self.processes.agree(self.folder.set_names())
            with self.processes.accelerator.main_process_first():
                outliers = needs_outliers(self.config)
                self.splits = load_splits(self.config, names, outliers=outliers)
        return fingerprint_images(self.splits)

    @property
    def ingredients(self) -> Ingredients:
        """What training tasks are made of."""
        assert self.splits is not None, "the image sets have not been read"
        return Ingredients(self.config, self.splits, self.processes)

    def train_task(
        self, task: RobustPretraining | AdversarialGan, *, extendable: bool = False
    ) -> None:
        """Trains a task to its end, from the start or from its saved state.

        Args:
            task: The task.
            extendable: Whether its training may go on later for more epochs.
        """
        if task.length.steps > task.length.asked:
            self.say(f"{task.stage}: {task.length}")
        train_task(
            task,
            self.folder.state,
            self.processes,
            self.logbook,
            keep=self.config.run.keep,
            save_minutes=self.config.run.save_minutes,
            extendable=extendable,
        )

    def settle(self, stage: str, config: Config) -> None:
        """Goes on with other options of a stage, also when the run is resumed.

        Args:
            stage: A stage that has not begun.
            config: The options.
        """
        self.config = config

        def note() -> None:
            self.folder.write_config(config)
            self.clock.settle(stage)

        self.processes.on_main(note)

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

    def keep_or_save_detector(self) -> None:
        """Writes the detector folder unless there is one, which stays until this one is judged.

        Where it holds the same weights its threshold is kept, and what `atd.calibrate` stored.
        """
        detector = self.detector
        assert detector is not None
        found = self.processes.agree(self._decided(detector) if self.processes.is_main else None)
        if found is None:
            self.save_detector()
        elif found:
            detector.calibration = found.pop("sample")
            detector.config = dataclasses.replace(detector.config, **found)

    def _decided(self, detector: Detector) -> dict[str, Any] | None:
        """What was decided on the stored detector, if it is this one; None where there is none."""
        try:
            stored = Detector.from_pretrained(self.folder.detector)
        except UserError:
            return None
        if fingerprint(stored) != fingerprint(detector):
            return {}
        kept = {key: getattr(stored.config, key) for key in _DECIDED}
        return {**kept, "sample": stored.calibration}


def describe(splits: DataSplits) -> str:
    """The image sets and their sizes, in a few lines."""
    rows = [
        ("in-distribution", splits.id_train, splits.id_val, splits.id_test),
        ("outliers", splits.outlier_train, splits.outlier_val, None),
    ]
    lines = [
        f"{title}: {train.name}, {len(train)} for training, {len(val)} for validation"
        + (f", {len(test)} for the test" if test is not None else "")
        if train is not None and val is not None
        else f"{title}: none, for nothing here learns from them"
        for title, train, val, test in rows
    ]
    classes = splits.id_train.classes
    known = f"{len(classes)} ({_few(classes)})" if classes else "none are told apart"
    lines.insert(1, f"classes: {known}")
    tests = [f"{name} ({splits.roles[name]}, {len(s)})" for name, s in splits.ood_test.items()]
    return "\n".join([*lines, "OOD test sets: " + (", ".join(tests) or "none")])


def _few(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return printable(", ".join(names[:_NAMED]) + more)

"""The stages of a run and their order: helper, robust pre-training, ATD, evaluation, report."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from atd.backbones.base import Backbone
from atd.backbones.robustbench import load_weights
from atd.building import detector_config, new_backbone, new_generator, standardise
from atd.config import Config
from atd.data.fingerprint import fingerprint_images
from atd.data.images import ImageSet
from atd.data.splits import DataSplits, load_splits
from atd.detectors.atd import ATD
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.errors import UserError
from atd.evaluation.settings import settings_from
from atd.inference import computes_in_bfloat16
from atd.judging import judge
from atd.reporting.card import model_card
from atd.reporting.report import write_report
from atd.run_folder import RunFolder
from atd.training.adversarial_gan import AdversarialGan
from atd.training.carried import require_room
from atd.training.contact import in_contact
from atd.training.logbook import Logbook
from atd.training.loop import Task, fit
from atd.training.processes import Processes, parts
from atd.training.rank_log import RankLog
from atd.training.robust_pretraining import RobustPretraining
from atd.training.stream import Stream

__all__ = ["Run"]


class Run:
    """A run from its config to an evaluated detector; every stage is skipped once finished.

    Args:
        config: All options.
        processes: The processes that share the work.
        splits: The image sets, if they are already at hand.
    """

    def __init__(
        self, config: Config, processes: Processes, splits: DataSplits | None = None
    ) -> None:
        self.config, self.processes, self.splits = config, processes, splits
        self.folder = RunFolder(config.run.folder)
        rank_log = self.folder.rank_log(processes.rank)
        self.log = RankLog(rank_log if config.run.rank_logs else None)
        self.seed = config.run.seed
        precision = config.run.precision
        native = precision == "auto" and computes_in_bfloat16(processes.device)
        self.bfloat16 = native or precision == "bfloat16"
        torch.manual_seed(self.seed)
        torch.use_deterministic_algorithms(config.run.deterministic, warn_only=True)

    def execute(self) -> dict[str, Any]:
        """Runs the stages that are not finished yet.

        Returns:
            The results of the evaluation.

        Raises:
            UserError: Bad input; what was there before stays intact.
            Interrupted: A signal asked to stop; the state was saved.
            LostContact: Another process died or hangs.
        """
        with self.log:
            with in_contact(self.processes, lambda: "the preparation of training"):
                detector, backbone, splits = self.train()
            with in_contact(self.processes, lambda: "the evaluation"):
                self.log.write("evaluation")
                self._save(detector)
                results = self._evaluate(detector, backbone, splits)
                self.processes.wait()
            self.log.write("finished")
        return results

    def train(self) -> tuple[Detector, Backbone | None, DataSplits]:
        """Runs the training stages that are not finished yet.

        Returns:
            The detector, the pre-trained backbone (fine-tuning leaves it as it was; None for a
            discriminator of pixels) and the image sets.

        Raises:
            UserError: As `execute`.
            Interrupted: As `execute`.
        """
        self.processes.on_main(lambda: self.folder.claim(self.config))
        self.log.start(self.processes)
        if self.splits is None:
            with self.processes.accelerator.main_process_first():
                self.splits = load_splits(self.config)
        splits = self.splits
        self.processes.on_main(lambda: self.folder.claim_images(fingerprint_images(splits)))
        self._say(describe(splits))
        logbook = Logbook(self.folder.path if self.processes.is_main else None, self.log)
        try:
            backbone = self._backbone(splits, logbook)
            detector = self._train_detector(backbone, splits, logbook)
        finally:
            logbook.close()
        return detector, backbone, splits

    def _say(self, text: str) -> None:
        self.log.write(text)
        if self.processes.is_main:
            tqdm.write(text)

    def _stream(self, images: ImageSet, batch_size: int, key: str, purpose: str) -> Stream:
        size, count = min(batch_size, len(images)), self.processes.count
        if size < batch_size and size % count:
            raise UserError(
                f"{key}={batch_size}: {images.name} has only {size} images, which do not divide "
                f"among {count} processes; use {key}={size - size % count}"
            )
        share = self.processes.share(size, key)
        data, workers = self.config.data, self.config.loader.workers
        number = parts(share, self.config.run.device_batch, key)
        return Stream(images, size, share, self.seed, purpose, data.augment, workers, number)

    def _backbone(self, splits: DataSplits, logbook: Logbook) -> Backbone | None:
        """The robust feature extractor: loaded, or pre-trained here."""
        config = self.config
        if config.atd.features == "pixels":
            return None
        torch.manual_seed(self.seed)
        backbone = new_backbone(config, splits).to(self.processes.device)
        if config.backbone.weights:
            load_weights(backbone, config.backbone.weights)
            return backbone
        if not splits.id_train.classes:
            self._say(
                "The ID images have no labels: pre-training learns, robustly, to tell by which of "
                "four quarter turns an image was rotated."
            )
        helper: Backbone | None = None
        if config.pretrain.objective == "hat":
            helper = new_backbone(config, splits).to(self.processes.device)
            epochs = config.pretrain.helper_epochs
            self._pretrain(helper, None, splits, "helper", "standard", epochs, logbook)
        objective, epochs = config.pretrain.objective, config.pretrain.epochs
        self._pretrain(backbone, helper, splits, "pretrain", objective, epochs, logbook)
        return backbone

    def _pretrain(
        self,
        model: nn.Module,
        helper: nn.Module | None,
        splits: DataSplits,
        stage: str,
        objective: str,
        epochs: int,
        logbook: Logbook,
    ) -> None:
        size = self.config.pretrain.batch_size
        task = RobustPretraining(
            model,
            helper,
            self._stream(splits.id_train, size, "pretrain.batch_size", stage),
            splits.id_val,
            self.config.pretrain,
            objective=objective,
            epochs=epochs,
            stage=stage,
            processes=self.processes,
            seed=self.seed,
            bfloat16=self.bfloat16,
            compiled=self.config.run.compile,
        )
        self._fit(task, logbook)

    def _fit(self, task: Task, logbook: Logbook) -> None:
        run = self.config.run
        keep, minutes = run.keep, run.save_minutes
        fit(task, self.folder.state, self.processes, logbook, keep=keep, save_minutes=minutes)

    def _train_detector(
        self, backbone: Backbone | None, splits: DataSplits, logbook: Logbook
    ) -> Detector:
        task = self.adversarial_gan(backbone, splits)
        self._fit(task, logbook)
        return task.detector.requires_grad_(False).eval()

    def adversarial_gan(self, backbone: Backbone | None, splits: DataSplits) -> AdversarialGan:
        """The last training stage, before its first step.

        Args:
            backbone: The pre-trained backbone; None for a discriminator of pixels.
            splits: The image sets.

        Returns:
            The task, with a detector of its own.

        Raises:
            UserError: The batch does not divide, or perturbations do not fit into memory.
        """
        config = self.config
        torch.manual_seed(self.seed + 1)
        detector = build_detector(detector_config(config, splits))
        assert isinstance(detector, ATD)
        if backbone is not None and detector.backbone is not None:
            detector.backbone.load_state_dict(backbone.state_dict())
        detector.to(self.processes.device)
        features = standardise(detector, splits, config)
        size = config.atd.batch_size
        streams = tuple(
            self._stream(images, size, "atd.batch_size", purpose)
            for images, purpose in (
                (splits.id_train, "id"),
                (splits.outlier_train, "outlier"),
            )
        )
        streams = _equal_batches(streams)
        if config.atd.adversarial and config.atd.attack_start == "carried":
            shape = (config.data.channels, *2 * (config.data.image_size,))
            require_room(streams, shape, config.loader.memory_mb)
        generator = new_generator(config, features)
        if generator is not None:
            generator.to(self.processes.device)
        return AdversarialGan(
            detector,
            generator,
            streams,
            (splits.id_val, splits.outlier_val),
            config.atd,
            processes=self.processes,
            seed=self.seed,
            bfloat16=self.bfloat16,
            compiled=config.run.compile,
        )

    def _save(self, detector: Detector, card: str = "") -> None:
        if self.processes.is_main:
            detector.save_pretrained(self.folder.detector, card)
        self.processes.wait()

    def _evaluate(
        self, detector: Detector, backbone: Backbone | None, splits: DataSplits
    ) -> dict[str, Any]:
        settings = settings_from(
            self.config,
            device=self.processes.device,
            accelerator=self.processes.accelerator,
            cache=self.folder.state / "scores",
            progress=self.processes.is_main,
        )
        evaluation = judge(detector, backbone, splits, settings, self.config, self.folder.detector)
        results = evaluation.results
        detector.config = dataclasses.replace(
            detector.config,
            threshold=results["threshold"]["value"],
            threshold_note="accepts 95 % of clean held-out ID images",
            provenance=results["provenance"],
        )
        self._save(detector, model_card(results))
        if self.processes.is_main:
            write_report(evaluation, self.folder.report)
            self.folder.finish()
        return results


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


def _equal_batches(streams: tuple[Stream, ...]) -> tuple[Stream, Stream]:
    """ID and outlier batches of one size: a small set limits both."""
    least = min(streams, key=lambda stream: stream.batch_size)
    inside, outside = (
        dataclasses.replace(
            stream, batch_size=least.batch_size, share=least.share, parts=least.parts
        )
        for stream in streams
    )
    if least.batch_size < 2:
        raise UserError(f"{inside.images.name}: too few images to train on")
    return inside, outside

"""The stages of a run and their order: helper, robust pre-training, ATD, evaluation, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from atd.baselines import build_baseline
from atd.config import Config
from atd.data.images import ImageSet, batches
from atd.data.splits import DataSplits, load_splits
from atd.errors import UserError
from atd.evaluation.card import model_card
from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.provenance import provenance
from atd.evaluation.report import write_report
from atd.evaluation.settings import Settings, settings_from
from atd.models.backbones import Backbone, build_backbone
from atd.models.detector import Detector, DetectorConfig
from atd.models.gan import FeatureGenerator, PixelGenerator
from atd.models.robustbench import load_weights
from atd.run_folder import RunFolder
from atd.training.adversarial_gan import AdversarialGan
from atd.training.logbook import Logbook
from atd.training.loop import fit
from atd.training.processes import Processes
from atd.training.robust_pretraining import RobustPretraining
from atd.training.stream import Stream

__all__ = ["Run", "judge", "limited"]

_FIT_IMAGES = 4096
_TURNS = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")


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
        self.seed = config.run.seed
        self.bfloat16 = config.run.precision == "bfloat16"
        torch.manual_seed(self.seed)
        torch.use_deterministic_algorithms(config.run.deterministic, warn_only=True)

    def execute(self) -> dict[str, Any]:
        """Runs the stages that are not finished yet.

        Returns:
            The results of the evaluation.

        Raises:
            UserError: Bad input; what was there before stays intact.
            Interrupted: A signal asked to stop; the state was saved.
        """
        detector, backbone, splits = self.train()
        self._save(detector)
        return self._evaluate(detector, backbone, splits)

    def train(self) -> tuple[Detector, Backbone | None, DataSplits]:
        """Runs the training stages that are not finished yet.

        Returns:
            The detector, the pre-trained backbone (fine-tuning leaves it as it was; None for a
            discriminator of pixels) and the image sets.

        Raises:
            UserError: As `execute`.
            Interrupted: As `execute`.
        """
        if self.processes.is_main:
            self.folder.claim(self.config)
        self.processes.wait()
        if self.splits is None:
            with self.processes.accelerator.main_process_first():
                self.splits = load_splits(self.config)
        splits = self.splits
        self._say(describe(splits))
        logbook = Logbook(self.folder.path if self.processes.is_main else None)
        try:
            backbone = self._backbone(splits, logbook)
            detector = self._train_detector(backbone, splits, logbook)
        finally:
            logbook.close()
        return detector, backbone, splits

    def _say(self, text: str) -> None:
        if self.processes.is_main:
            tqdm.write(text)

    def _stream(self, images: ImageSet, batch_size: int, key: str, purpose: str) -> Stream:
        size = min(batch_size, len(images) - len(images) % self.processes.count)
        share = self.processes.share(size, key)
        data, workers = self.config.data, self.config.loader.workers
        return Stream(images, size, share, self.seed, purpose, data.augment, workers)

    def _new_backbone(self, splits: DataSplits) -> Backbone:
        mean, std = splits.id_train.channel_statistics()
        backbone = build_backbone(
            self.config.backbone,
            channels=self.config.data.channels,
            classes=len(splits.id_train.classes) or len(_TURNS),
            image_size=self.config.data.image_size,
            mean=mean.tolist(),
            std=std.tolist(),
        )
        return backbone.to(self.processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _backbone(self, splits: DataSplits, logbook: Logbook) -> Backbone | None:
        """The robust feature extractor: loaded, or pre-trained here."""
        config = self.config
        if config.atd.features == "pixels":
            return None
        torch.manual_seed(self.seed)
        backbone = self._new_backbone(splits)
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
            helper = self._new_backbone(splits)
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
        )
        fit(task, self.folder.state, self.processes, logbook)

    def _train_detector(
        self, backbone: Backbone | None, splits: DataSplits, logbook: Logbook
    ) -> Detector:
        config = self.config
        torch.manual_seed(self.seed + 1)
        detector = Detector(detector_config(config, splits))
        if backbone is not None and detector.backbone is not None:
            detector.backbone.load_state_dict(backbone.state_dict())
        detector.to(self.processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        features = self._standardise(detector, splits)
        size = config.atd.batch_size
        streams = tuple(
            self._stream(images, size, "atd.batch_size", purpose)
            for images, purpose in (
                (splits.id_train, "id"),
                (splits.outlier_train, "outlier"),
            )
        )
        streams = _equal_batches(streams, self.processes)
        generator = self._generator(detector, features)
        task = AdversarialGan(
            detector,
            generator,
            streams,
            (splits.id_val, splits.outlier_val),
            config.atd,
            processes=self.processes,
            seed=self.seed,
            bfloat16=self.bfloat16,
        )
        fit(task, self.folder.state, self.processes, logbook)
        return detector.requires_grad_(False).eval()

    def _standardise(self, detector: Detector, splits: DataSplits) -> Tensor:
        """Sets the detector's feature statistics; returns features of ID images and outliers."""
        if detector.backbone is None:
            return torch.zeros(0)
        inside = self._features(detector, splits.id_train)
        outside = self._features(detector, splits.outlier_train)
        if self.config.backbone.standardise:
            std = inside.std(0)
            detector.feature_mean.copy_(inside.mean(0))
            # A feature that hardly varies must not be blown up: that would amplify attacks.
            detector.feature_std.copy_(std.clamp_min(0.1 * float(std.mean())).clamp_min(1e-6))
        features = torch.cat([inside, outside])
        return (features - detector.feature_mean) / detector.feature_std

    @torch.no_grad()
    def _features(self, detector: Detector, images: ImageSet) -> Tensor:
        detector.eval()
        some = images.take(_FIT_IMAGES, self.seed)
        indices = torch.arange(len(some)).split(256)
        return torch.cat(
            [
                detector.features(pixels.to(self.processes.device).float() / 255)
                for pixels, _, _ in batches(some, indices)
            ]
        )

    def _generator(self, detector: Detector, features: Tensor) -> nn.Module | None:
        atd, data = self.config.atd, self.config.data
        if atd.generator == "none":
            return None
        generator: nn.Module
        if detector.backbone is None:
            generator = PixelGenerator(
                data.channels, data.image_size, atd.latent_dim, atd.normalisation
            )
        else:
            floor = features.amin(0)
            generator = FeatureGenerator(
                features.shape[1], atd.latent_dim, floor, atd.normalisation
            )
        return generator.to(self.processes.device)

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


def judge(
    detector: Detector,
    backbone: Backbone | None,
    splits: DataSplits,
    settings: Settings,
    config: Config,
    path: Path,
) -> Evaluation:
    """Evaluates a detector and the configured baselines on its backbone.

    Args:
        detector: The detector, on the settings' device.
        backbone: The pre-trained backbone for the baselines; None skips them.
        splits: The image sets.
        settings: Attack and execution.
        config: All options.
        path: Where the detector lies.

    Returns:
        Results and scores.

    Raises:
        UserError: As `atd.evaluation.protocol.evaluate`.
    """
    splits = limited(splits, config.evaluate.limit, config.run.seed)
    baselines: dict[str, nn.Module] = {}
    if backbone is not None:
        backbone.eval().requires_grad_(False)
        some = splits.id_train.take(_FIT_IMAGES, config.run.seed)
        for name in config.evaluate.baselines:
            device = next(backbone.parameters()).device
            pairs = (
                (pixels.to(device).float() / 255, labels.to(device))
                for pixels, labels, _ in batches(some, torch.arange(len(some)).split(256))
            )
            baselines[name] = build_baseline(name, backbone, pairs)
    return evaluate(
        detector,
        splits,
        settings,
        name=config.run.name,
        path=str(path),
        baselines=baselines,
        config=config,
    )


def limited(splits: DataSplits, limit: int, seed: int) -> DataSplits:
    """The splits with at most `limit` images per evaluated set (0 = all), a seeded subset."""
    return dataclasses.replace(
        splits,
        id_test=splits.id_test.take(limit, seed),
        ood_test={name: images.take(limit, seed) for name, images in splits.ood_test.items()},
    )


def detector_config(config: Config, splits: DataSplits) -> DetectorConfig:
    """Describes the detector that a config trains."""
    backbone = dataclasses.asdict(config.backbone) if config.atd.features == "backbone" else None
    return DetectorConfig(
        name=config.run.name,
        backbone=backbone,
        classes=list(splits.id_train.classes or _TURNS),
        image_size=config.data.image_size,
        channels=config.data.channels,
        normalisation=config.atd.normalisation,
        training=dataclasses.asdict(config),
        provenance=provenance(config, seed=config.run.seed, seconds=0.0),
    )


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


def _equal_batches(streams: tuple[Stream, ...], processes: Processes) -> tuple[Stream, Stream]:
    """ID and outlier batches of one size: a small set limits both."""
    size = min(stream.batch_size for stream in streams)
    share = processes.share(size, "atd.batch_size")
    inside, outside = (
        dataclasses.replace(stream, batch_size=size, share=share) for stream in streams
    )
    if size < 2:
        raise UserError(f"{inside.images.name}: too few images to train on")
    return inside, outside

"""The work that is timed and counted: HAT and ATD steps and attacked scoring, of the product."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atd.attacks.suite import member
from atd.backbones import Backbone, build_backbone
from atd.config import AtdConfig, BackboneConfig, PretrainConfig
from atd.data.images import HeldPixels, ImageSet
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.gan import FeatureGenerator
from atd.evaluation.scoring import attack_scores
from atd.evaluation.worst import Attack
from atd.training.adversarial_gan import AdversarialGan
from atd.training.processes import Processes
from atd.training.robust_pretraining import RobustPretraining
from atd.training.stream import Stream

__all__ = ["Work", "WorkSize", "noise_images"]

_EPSILON = 8 / 255

_TRAINING_PASSES = {"helper": 1, "hat": 1, "hat_ghosts": 0, "atd": 0}
"""Forward passes of a step in which batch normalisation sees all processes; HAT's groups share."""


@dataclass(frozen=True, kw_only=True)
class WorkSize:
    """How much work a step is.

    Attributes:
        width: Channels of the first stage of the PreActResNet-18.
        image_size: Side of an image in pixels.
        steps: Steps of the attack.
        ghost_batch: Images that batch normalisation takes together in `hat_ghosts`.
        scoring_batch: Images that a process attacks at once in `evaluation`, at most.
        classes: Classes of the ID images.
    """

    width: int
    image_size: int
    steps: int
    ghost_batch: int = 0
    scoring_batch: int = 256
    classes: int = 10


def noise_images(count: int, image_size: int, classes: int) -> ImageSet:
    """Labelled images of noise in memory: nothing about a step's time depends on what they show."""
    pixels = torch.randint(
        256,
        (count, 3, image_size, image_size),
        generator=torch.Generator().manual_seed(0),
        dtype=torch.uint8,
    )
    held = HeldPixels(pixels, [str(number) for number in range(count)])
    names = [f"class {number}" for number in range(classes)]
    return ImageSet.of("noise", held, torch.arange(count) % classes, names)


class Work:
    """Steps of training and scoring on resident images, by all processes of a team.

    Args:
        processes: The processes that share the work.
        size: How much work a step is.
        batch: Images per step over all processes (ATD: as many ID images as outliers), and
            images that are scored.
    """

    def __init__(self, processes: Processes, size: WorkSize, batch: int) -> None:
        self.processes, self.size, self.batch = processes, size, batch
        self.images = noise_images(2 * batch, size.image_size, size.classes)
        self._batches: dict[str, Any] = {}
        self._step = 0

    def _stream(self, purpose: str) -> Stream:
        share = self.processes.share(self.batch, "batch")
        return Stream(self.images, self.batch, share, 0, purpose, "none")

    def _backbone(self) -> Backbone:
        options, size = BackboneConfig(width=self.size.width), self.size
        backbone = build_backbone(
            options, channels=3, classes=size.classes, image_size=size.image_size
        )
        return backbone.to(memory_format=torch.channels_last)

    @functools.cached_property
    def helper(self) -> RobustPretraining:
        """Standard training of HAT's helper."""
        return self._pretraining("standard")

    @functools.cached_property
    def hat(self) -> RobustPretraining:
        """Robust pre-training of the backbone, by the statistics of the whole batch."""
        return self._pretraining("hat")

    @functools.cached_property
    def hat_ghosts(self) -> RobustPretraining:
        """The same, by the statistics of ghost batches."""
        return self._pretraining("hat", self.size.ghost_batch)

    def _pretraining(
        self, objective: Literal["standard", "hat"], ghost_batch: int = 0
    ) -> RobustPretraining:
        torch.manual_seed(0)
        config = PretrainConfig(
            steps=self.size.steps,
            batch_size=self.batch,
            ghost_batch=ghost_batch,
            epsilon=_EPSILON,
            ema=0.999,
        )
        return RobustPretraining(
            self._backbone(),
            self._backbone() if objective == "hat" else None,
            self._stream("pretrain"),
            self.images,
            config,
            objective=objective,
            epochs=1000,
            stage="pretrain",
            processes=self.processes,
            seed=0,
            bfloat16=False,
        )

    @functools.cached_property
    def atd(self) -> AdversarialGan:
        """Training of discriminator and generator on the frozen backbone."""
        torch.manual_seed(0)
        config = AtdConfig(steps=self.size.steps, batch_size=self.batch, epsilon=_EPSILON)
        described = DetectorConfig(
            kind="atd",
            backbone={"width": self.size.width},
            classes=list(self.images.classes),
            image_size=self.size.image_size,
            channels=3,
            options={"normalisation": config.normalisation},
        )
        detector = build_detector(described)
        floor = torch.full_like(detector.feature_mean, -1.0)
        return AdversarialGan(
            detector,
            FeatureGenerator(len(floor), config.latent_dim, floor, config.normalisation),
            (self._stream("id"), self._stream("outlier")),
            (self.images, self.images),
            config,
            processes=self.processes,
            seed=0,
            bfloat16=False,
        )

    def do(self, name: str) -> int:
        """Does a step of a kind of training, or `evaluation`: PGD on one batch.

        Args:
            name: `helper`, `hat`, `hat_ghosts`, `atd` or `evaluation`.

        Returns:
            The images that all processes worked on.
        """
        if name == "evaluation":
            self._evaluate()
            return self.batch
        task: RobustPretraining | AdversarialGan = getattr(self, name)
        if name not in self._batches:
            self._batches[name] = next(task.batches(0))
        task.step(self._step, self._batches[name])
        self._step += 1
        return 2 * self.batch if name == "atd" else self.batch

    def _evaluate(self) -> None:
        once = member("pgd", self.size.steps)
        attack_scores(
            self.atd.detector,
            self.images.take(self.batch, 0),
            Attack(members=(once,), epsilon=_EPSILON),
            direction=1,
            batch_size=self.size.scoring_batch,
            accelerator=self.processes.accelerator,
        )

    def trained(self, name: str) -> list[list[Tensor]]:
        """The parameters whose gradients a step averages over processes, by exchange."""
        modules: list[nn.Module | None] = [self.atd.detector.discriminator, self.atd.generator]
        if name != "atd":
            modules = [getattr(self, name).model]
        return [list(module.parameters()) for module in modules if module is not None]

    def norm_passes(self, name: str) -> int:
        """How often a step takes statistics of a global batch: layers times forward passes."""
        if not (passes := _TRAINING_PASSES[name]):
            return 0
        layers = getattr(self, name).model.modules()
        return passes * sum(isinstance(layer, nn.BatchNorm2d) for layer in layers)

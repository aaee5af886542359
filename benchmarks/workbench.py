"""The product's own training tasks, built as a run builds them, without a run folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from atd.config import Config, load
from atd.data.splits import DataSplits, load_splits
from atd.training.adversarial_gan import AdversarialGan
from atd.training.fits import untrained_backbone
from atd.training.ingredients import Ingredients
from atd.training.processes import Processes
from atd.training.robust_pretraining import RobustPretraining
from atd.training.tasks import adversarial_gan, untrained_pretraining

__all__ = ["atd_task", "first_batch", "pretrain_task"]

_PLAIN = (
    "run.precision=float32",
    "run.compile=false",
    "data.id=bundled:digits",
    "data.id_test=",
    "data.outliers=bundled:photo-china",
    "data.ood_val=",
    "data.ood_test=[photo=bundled:photo-flower]",
    "data.near_test=[]",
    "pretrain.objective=hat",
    "atd.finetune=false",
    "atd.ema=0",
    "evaluate.baselines=[]",
)
"""The CIFAR-10 networks, trained as published, on images that are at hand everywhere."""


def _plain_config(overrides: Sequence[str]) -> Config:
    """The recipe of `configs/cifar10.yaml` in float32, on bundled images of 32 pixels."""
    return load("configs/cifar10.yaml", [*_PLAIN, *overrides])


@functools.cache
def _splits(overrides: tuple[str, ...]) -> DataSplits:
    return load_splits(_plain_config(overrides))


def _ingredients(overrides: Sequence[str]) -> Ingredients:
    config = _plain_config(overrides)
    of_images = tuple(item for item in overrides if item.startswith(("data.", "loader.")))
    return Ingredients(config, _splits(of_images), Processes(config.run.device))


def atd_task(overrides: Sequence[str]) -> AdversarialGan:
    """The discriminator's training on an untrained backbone, ready for its first step."""
    given = _ingredients(overrides)
    pixels = given.config.atd.features == "pixels"
    return adversarial_gan(given, None if pixels else untrained_backbone(given))


def pretrain_task(overrides: Sequence[str]) -> RobustPretraining:
    """The backbone's robust training, ready for its first step."""
    return untrained_pretraining("pretrain", _ingredients(overrides))


def first_batch(task: AdversarialGan | RobustPretraining) -> Any:
    """The batch of a task's first step, on the device."""
    return next(task.batches(0))

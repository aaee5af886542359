"""The product's own training tasks, built as a run builds them, without a run folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from atd.config import Config, load
from atd.data.splits import DataSplits, load_splits
from atd.pipeline import Run
from atd.training.adversarial_gan import AdversarialGan
from atd.training.logbook import Logbook
from atd.training.loop import Task
from atd.training.processes import Processes
from atd.training.robust_pretraining import RobustPretraining

__all__ = ["atd_task", "bundled_splits", "first_batch", "plain_config", "pretrain_task"]

_PLAIN = (
    "run.precision=float32",
    "data.id=bundled:digits",
    "data.outliers=bundled:photo-china",
    "data.ood_val=",
    "data.ood_test=[photo=bundled:photo-flower]",
    "data.near_test=[]",
    "evaluate.baselines=[]",
)
"""The CIFAR-10 recipe on images that are at hand everywhere; speed does not depend on them."""


def plain_config(overrides: Sequence[str]) -> Config:
    """The recipe of `configs/cifar10.yaml` in float32, on bundled images of 32 pixels."""
    return load("configs/cifar10.yaml", [*_PLAIN, *overrides])


class _Tasks(Run):
    """A run that keeps its stages' tasks instead of training them."""

    def __init__(self, config: Config, splits: DataSplits) -> None:
        super().__init__(config, Processes(config.run.device), splits)
        self.tasks: dict[str, Any] = {}

    def _fit(self, task: Task, logbook: Logbook) -> None:
        self.tasks[task.stage] = task

    def build(self) -> None:
        """Makes every stage's task."""
        assert self.splits is not None
        silent = Logbook(None)
        backbone = self._backbone(self.splits, silent)
        self._train_detector(backbone, self.splits, silent)


@functools.cache
def _splits(overrides: tuple[str, ...]) -> DataSplits:
    return load_splits(plain_config(overrides))


def bundled_splits(overrides: Sequence[str]) -> DataSplits:
    """The image sets of `plain_config(overrides)`, loaded once for the same options."""
    return _splits(tuple(item for item in overrides if item.startswith(("data.", "loader."))))


def _tasks(overrides: Sequence[str], splits: DataSplits | None) -> dict[str, Any]:
    run = _Tasks(plain_config(overrides), splits or bundled_splits(overrides))
    run.build()
    return run.tasks


def atd_task(overrides: Sequence[str], splits: DataSplits | None = None) -> AdversarialGan:
    """The discriminator's training on an untrained backbone, ready for its first step."""
    task: AdversarialGan = _tasks(overrides, splits)["atd"]
    task.detector.requires_grad_(False).eval()
    task.detector.discriminator.requires_grad_(True)
    return task


def pretrain_task(overrides: Sequence[str], splits: DataSplits | None = None) -> RobustPretraining:
    """The backbone's robust training, ready for its first step."""
    task: RobustPretraining = _tasks(overrides, splits)["pretrain"]
    return task


def first_batch(task: AdversarialGan | RobustPretraining) -> Any:
    """The batch of a task's first step, on the device."""
    return next(task.batches(0))


def contiguous(images: Tensor) -> Tensor:
    """Images in the layout that torch makes by default."""
    return images.contiguous(memory_format=torch.contiguous_format)

"""What `import atd` offers."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from atd.assessment import evaluate
from atd.backbones.base import Backbone
from atd.backbones.checkpoints import head_left_behind
from atd.backbones.foreign import ForeignBackbone
from atd.config import Scale
from atd.data.images import ImageSet
from atd.data.python_images import Given, image_set
from atd.detectors.base import Detector
from atd.detectors.external import External
from atd.detectors.fitting import fit_to_sets
from atd.detectors.kinds import kind_class, kind_options
from atd.detectors.loading import load
from atd.errors import UserError
from atd.reporting.outcome import Report

__all__ = ["Detector", "External", "Report", "evaluate", "fit", "load"]


def fit(
    kind: str,
    backbone: nn.Module | str | os.PathLike[str],
    id_train: Given,
    *,
    labels: Sequence[int] | Tensor | np.ndarray[Any, Any] | None = None,
    outliers: Given | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    scale: Scale | None = None,
    name: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Detector:
    """Makes a detector of a kind from a trained classifier and fits it.

    Args:
        kind: A key of `atd.detectors.kinds.KINDS`, e.g. `mahalanobis`.
        backbone: The classifier, which is copied: a backbone, a detector (or its folder), or any
            module that maps images in [0, 1] to class logits. A detector on a module that was not
            made by `build_backbone` cannot be saved.
        id_train: In-distribution images: a tensor, an array, a torch data set, or a source string
            such as `folder:PATH`.
        labels: Their class numbers (N,), where `id_train` does not hold them.
        outliers: Outliers, for the kinds that need them.
        image_size: Side in pixels; None takes that of the images, or of the detector.
        channels: 3 or 1, likewise.
        scale: What is white in image files of more than 8 bits, see `DataConfig.scale`; None takes
            that of the detector, or `auto`.
        name: What the detector is called; default: its kind.
        seed: For kinds that draw random numbers.
        options: Options of the kind, e.g. `temperature=2`.

    Returns:
        The fitted detector, in evaluation mode, on the backbone's device.

    Raises:
        UserError: Unknown kind or option, a kind that has to be trained, or images that do not
            suffice or do not suit the backbone.

    Example:
        >>> fitted = atd.fit("energy", network, images, temperature=2)  # doctest: +SKIP
    """
    cls = kind_class(kind)
    if "training" in cls.info.needs:
        raise UserError(f"kind {kind} has to be trained: python train.py detector.kind={kind}")
    chosen = kind_options(kind, options)
    if isinstance(backbone, str | os.PathLike):
        backbone = load(backbone)
    if isinstance(backbone, Detector):
        made = backbone.config
        image_size, channels, scale = made.image_size, made.channels, scale or made.scale
    of: dict[str, Any] = {"image_size": image_size, "channels": channels, "split": "train"}
    of["scale"] = scale or "auto"
    inside = image_set(id_train, name="id_train", labels=labels, **of)
    shape = inside.fetch([0]).shape
    of |= {"image_size": shape[-1], "channels": shape[1]}
    network = _backbone(backbone, shape[-1], shape[1])
    if "logits" in cls.info.needs and network.lacks_head:
        raise UserError(
            f"kind {kind} reads class logits, and this backbone has no head that fits its features "
            "(an ATD with atd.finetune leaves its own behind); choose a kind that reads features "
            "(mahalanobis, knn)"
        )
    detector = cls(
        network,
        chosen,
        image_size=shape[-1],
        channels=shape[1],
        classes=_classes(inside, network),
        name=name or kind,
    )
    try:
        detector.config = dataclasses.replace(detector.config, scale=of["scale"])
    except ValueError as error:
        raise UserError(f"atd.fit: {error}") from None
    outside = None if outliers is None else image_set(outliers, name="outliers", **of)
    return fit_to_sets(detector.to(detector.device), inside, outside, seed=seed)


def _backbone(given: nn.Module, size: int, channels: int) -> Backbone:
    outdated = False
    if isinstance(given, Detector):
        if given.backbone is None:
            raise UserError(f"detector {given.config.name}: it has no backbone to fit on")
        outdated = head_left_behind(given.kind, given.config.training)
        given = given.backbone
    network = copy.deepcopy(given).eval().requires_grad_(False)
    if isinstance(network, Backbone):
        if outdated:  # in what is saved too: nobody takes it for a classifier later
            for parameter in network.get_submodule(network.head_name).parameters():
                parameter.zero_()
        return network
    title = type(given).__name__
    wrapped = ForeignBackbone(network, title, channels=channels, image_size=size, features="last")
    return wrapped.eval().requires_grad_(False)


def _classes(images: ImageSet, backbone: Backbone) -> list[str]:
    """Names of the backbone's classes; those of the images where they are as many."""
    same = len(images.classes) == backbone.classes
    return list(images.classes) if same else [str(index) for index in range(backbone.classes)]

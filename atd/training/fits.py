"""Networks before their training, and detectors that are fitted instead of trained."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from atd.backbones import Backbone, build_backbone
from atd.backbones.weights import adopted
from atd.config import BackboneConfig
from atd.detectors.base import Detector
from atd.detectors.config import DetectorConfig
from atd.detectors.fitting import fit_to_sets
from atd.detectors.kinds import kind_class, kind_options
from atd.detectors.statistics import require_labels
from atd.errors import UserError
from atd.provenance import provenance
from atd.training.ingredients import Ingredients
from atd.training.objectives import objective_of

__all__ = ["detector_config", "fitted_detector", "unfitted_detector", "untrained_backbone"]

_TURNS = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")


def untrained_backbone(given: Ingredients, *, helper: bool = False) -> Backbone:
    """A backbone that normalises by the statistics of the ID images, on the device.

    Args:
        given: Options and images; unlabelled ID images get four classes, one for each rotation.
        helper: Gives HAT's helper, whose weights are drawn after those of the backbone.
    """
    torch.manual_seed(given.config.run.seed)
    backbone = _backbone(given)
    return (_backbone(given) if helper else backbone).to(given.processes.device)


def _backbone_options(given: Ingredients) -> BackboneConfig:
    """The backbone's options, with those that given weights or the objective settle."""
    config = given.config
    if config.backbone.weights:
        return adopted(config.backbone, config.data.image_size)
    needed: Any = objective_of(config.pretrain.objective).backbone
    return dataclasses.replace(config.backbone, **needed)


def _backbone(given: Ingredients) -> Backbone:
    images, data = given.splits.id_train, given.config.data
    mean, std = images.channel_statistics()
    options, classes = _backbone_options(given), len(images.classes) or len(_TURNS)
    backbone = build_backbone(
        options,
        channels=data.channels,
        classes=classes,
        image_size=data.image_size,
        mean=mean.tolist(),
        std=std.tolist(),
    )
    needed = classes + options.outlier_class
    if backbone.classes != needed and not options.weights:  # one's own code has classes of its own
        raise UserError(
            f"backbone.architecture={options.architecture}: gives {backbone.classes} logits, but "
            f"pre-training needs {needed}; return a network with so many, or give backbone.weights"
        )
    return backbone.to(memory_format=torch.channels_last)


def detector_config(given: Ingredients) -> DetectorConfig:
    """Describes the detector that a config makes."""
    config, splits = given.config, given.splits
    kind = config.detector_kind
    options = {name: value for name, value in config.detector.items() if name != "kind"}
    if kind == "atd":
        options = {
            "normalisation": config.atd.normalisation,
            "batch_statistics": config.atd.batch_statistics,
        }
    backbone = (
        dataclasses.asdict(_backbone_options(given)) if config.atd.features == "backbone" else None
    )
    return DetectorConfig(
        kind=kind,
        name=config.run.name,
        backbone=backbone,
        classes=list(splits.id_train.classes or _TURNS),
        image_size=config.data.image_size,
        channels=config.data.channels,
        scale=config.data.scale,
        options=options,
        training=dataclasses.asdict(config),
        provenance=provenance(config, seed=config.run.seed, seconds=0.0),
    )


def unfitted_detector(given: Ingredients, backbone: Backbone) -> Detector:
    """A detector of the config's kind on a backbone, before its fit.

    Args:
        given: Options and images.
        backbone: A backbone of the right shape.

    Raises:
        UserError: The options do not suit the backbone, or labels are missing that it needs.
    """
    description = detector_config(given)
    detector = kind_class(description.kind)(
        backbone,
        kind_options(description.kind, description.options),
        image_size=description.image_size,
        channels=description.channels,
        classes=description.classes,
        name=description.name,
    )
    if "labels" in detector.info.needs:
        require_labels(detector, given.splits.id_train.labels, max(1, backbone.classes))
    made = detector.config
    detector.config = dataclasses.replace(description, options=made.options, backbone=made.backbone)
    return detector


def fitted_detector(given: Ingredients, backbone: Backbone) -> Detector:
    """A detector of a kind that is fitted, not trained, on a backbone that stays as it is.

    Every process fits it; all then have what the first one found.

    Args:
        given: Options and images.
        backbone: The pre-trained backbone.

    Raises:
        UserError: The images do not suffice, or the options do not suit the backbone.
    """
    config, splits, processes = given.config, given.splits, given.processes
    detector = unfitted_detector(given, backbone).to(processes.device)
    seed = config.run.seed
    fit_to_sets(detector, splits.id_train, splits.outlier_train, seed=seed)
    if processes.count > 1:
        fitted = {
            name: value.cpu()
            for name, value in detector.state_dict().items()
            if not name.startswith("backbone.")
        }
        detector.load_state_dict(processes.agree(fitted), strict=False)
    return detector

"""The training tasks of a run, made from its options and image sets, before their first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atd.backbones import Backbone, build_backbone
from atd.backbones.weights import adopted
from atd.config import BackboneConfig, Config
from atd.data.fetching import batches
from atd.data.images import FIT_IMAGES, ImageSet
from atd.detectors.atd import ATD
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.fitting import fit_to_sets
from atd.detectors.gan import FeatureGenerator, PixelGenerator
from atd.detectors.kinds import kind_class, kind_options
from atd.errors import UserError
from atd.provenance import provenance
from atd.training.adversarial_gan import AdversarialGan
from atd.training.carried import require_room
from atd.training.ingredients import Ingredients, equal_batches
from atd.training.objectives import objective_of
from atd.training.released_gan import LINEAR, ReleasedGan
from atd.training.robust_pretraining import RobustPretraining
from atd.training.stream import Stream

__all__ = [
    "adversarial_gan",
    "detector_config",
    "fitted_detector",
    "robust_pretraining",
    "untrained_backbone",
]

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


def robust_pretraining(
    given: Ingredients, stage: str, model: Backbone, helper: Backbone | None = None
) -> RobustPretraining:
    """The pre-training of the backbone, or of the helper.

    Args:
        given: Options and images.
        stage: `helper` or `pretrain`.
        model: An untrained backbone.
        helper: The trained helper, where the objective needs one.

    Raises:
        UserError: The batch does not divide, an objective that learns from outliers has none, or
            the backbone does not suit the detector.
    """
    config, is_helper = given.config.pretrain, stage == "helper"
    objective = "standard" if is_helper else config.objective
    if given.config.detector_kind != "atd":
        # A kind that does not suit the backbone says so before hours of training.
        _unfitted(detector_config(given), model)
    stream, *others = _pretraining_streams(given, objective, stage)
    return RobustPretraining(
        model,
        helper,
        stream,
        others[0] if others else None,
        given.splits.id_val,
        config,
        objective=objective,
        epochs=config.helper_epochs if is_helper else config.epochs,
        min_steps=config.helper_min_steps if is_helper else config.min_steps,
        stage=stage,
        processes=given.processes,
        seed=given.config.run.seed,
        bfloat16=given.bfloat16,
        compiled=given.config.run.compile,
    )


def _pretraining_streams(given: Ingredients, objective: str, stage: str) -> Sequence[Stream]:
    """ID images and, for an objective that learns from them, outliers in batches as large."""
    splits, size, key = given.splits, given.config.pretrain.batch_size, "pretrain.batch_size"
    if objective_of(objective).beside != "outliers":
        return [given.stream(splits.id_train, size, key, stage)]
    if splits.outlier_train is None:
        raise UserError(
            f"pretrain.objective={objective}: it learns from outliers, and there are none; "
            "give them in data.outliers"
        )
    sides = (splits.id_train, stage), (splits.outlier_train, f"{stage} outliers")
    return equal_batches(*(given.stream(images, size, key, name) for images, name in sides))


def adversarial_gan(given: Ingredients, backbone: Backbone | None) -> AdversarialGan:
    """The training of the discriminator, with a detector of its own.

    Args:
        given: Options and images.
        backbone: The pre-trained backbone, which stays as it is; None for a discriminator of
            pixels.

    Raises:
        UserError: The batch does not divide, or perturbations do not fit into memory.
    """
    config, splits = given.config, given.splits
    outliers, held_outliers = splits.outlier_train, splits.outlier_val
    assert outliers is not None
    assert held_outliers is not None
    torch.manual_seed(config.run.seed + 1)
    detector = build_detector(detector_config(given))
    assert isinstance(detector, ATD)
    if backbone is not None and detector.backbone is not None:
        detector.backbone.load_state_dict(backbone.state_dict())
    detector.to(given.processes.device)
    features = _standardise(detector, outliers, given)
    streams = equal_batches(
        *(
            given.stream(images, config.atd.batch_size, "atd.batch_size", purpose)
            for images, purpose in ((splits.id_train, "id"), (outliers, "outlier"))
        )
    )
    if config.atd.adversarial and config.atd.attack_start == "carried":
        shape = (config.data.channels, *2 * (config.data.image_size,))
        require_room(streams, shape, config.loader.memory_mb)
    generator = _generator(config, features)
    if generator is not None:
        generator.to(given.processes.device)
    return (ReleasedGan if config.atd.as_released else AdversarialGan)(
        detector,
        generator,
        streams,
        (splits.id_val, held_outliers),
        config.atd,
        processes=given.processes,
        seed=config.run.seed,
        bfloat16=given.bfloat16,
        compiled=config.run.compile,
    )


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
    description = detector_config(given)
    detector = _unfitted(description, backbone).to(processes.device)
    made = detector.config
    detector.config = dataclasses.replace(description, options=made.options, backbone=made.backbone)
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


def _unfitted(description: DetectorConfig, backbone: Backbone) -> Detector:
    return kind_class(description.kind)(
        backbone,
        kind_options(description.kind, description.options),
        image_size=description.image_size,
        channels=description.channels,
        classes=description.classes,
        name=description.name,
    )


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


def _standardise(detector: ATD, outliers: ImageSet, given: Ingredients) -> Tensor:
    """Sets the detector's feature statistics from clean ID training images.

    Returns:
        Features (N, F) of ID images and outliers as the discriminator sees them; empty for a
        discriminator of pixels.
    """
    if detector.backbone is None:
        return torch.zeros(0)
    config, splits = given.config, given.splits
    inside = _features(detector, splits.id_train, config.run.seed)
    outside = _features(detector, outliers, config.run.seed)
    if config.backbone.standardise:
        detector.set_statistics(inside)
    features = torch.cat([inside, outside])
    return (features - detector.feature_mean) / detector.feature_std


@torch.no_grad()
def _features(detector: ATD, images: ImageSet, seed: int) -> Tensor:
    detector.eval()
    some = images.take(FIT_IMAGES, seed)
    device = detector.feature_mean.device
    chunks = batches(some, torch.arange(len(some)).split(256))
    return torch.cat([detector.features(x.to(device).float() / 255) for x, _, _ in chunks])


def _generator(config: Config, features: Tensor) -> nn.Module | None:
    """The untrained generator; the smallest of the features (N, F) bound the generated ones."""
    atd, data = config.atd, config.data
    if atd.generator == "none":
        return None
    if atd.features == "pixels":
        return PixelGenerator(data.channels, data.image_size, atd.latent_dim, atd.normalisation)
    floor = features.amin(0).cpu()
    if atd.as_released:
        floor = torch.full_like(floor, LINEAR)
    return FeatureGenerator(features.shape[1], atd.latent_dim, floor, atd.normalisation)

"""The training tasks of a run, made from its options and image sets, before their first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atd.backbones import Backbone
from atd.config import Config
from atd.data.fetching import batches
from atd.data.images import FIT_IMAGES, ImageSet
from atd.detectors.atd import ATD
from atd.detectors.build import build_detector
from atd.detectors.gan import FeatureGenerator, PixelGenerator
from atd.errors import UserError
from atd.training.adversarial_gan import AdversarialGan
from atd.training.carried import require_room
from atd.training.fits import detector_config, unfitted_detector, untrained_backbone
from atd.training.ingredients import Ingredients, equal_batches
from atd.training.objectives import objective_of
from atd.training.released_gan import LINEAR, ReleasedGan
from atd.training.robust_pretraining import RobustPretraining
from atd.training.stream import Stream

__all__ = [
    "adversarial_gan",
    "discriminator_streams",
    "robust_pretraining",
    "untrained_pretraining",
]


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
        unfitted_detector(given, model)
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


def untrained_pretraining(stage: str, given: Ingredients) -> RobustPretraining:
    """As `robust_pretraining`, with networks that are all untrained: to time it, or to try it out.

    Args:
        stage: `helper` or `pretrain`.
        given: Options and images.

    Raises:
        UserError: As `robust_pretraining`.
    """
    helped = stage == "pretrain" and objective_of(given.config.pretrain.objective).helped
    helper = untrained_backbone(given, helper=True) if helped else None
    return robust_pretraining(given, stage, untrained_backbone(given), helper)


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
    streams = discriminator_streams(given)
    torch.manual_seed(config.run.seed + 1)
    detector = build_detector(detector_config(given))
    assert isinstance(detector, ATD)
    if backbone is not None and detector.backbone is not None:
        detector.backbone.load_state_dict(backbone.state_dict())
    detector.to(given.processes.device)
    features = _standardise(detector, outliers, given)
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


def discriminator_streams(given: Ingredients) -> tuple[Stream, Stream]:
    """ID images and outliers in batches of one size, for the training of the discriminator.

    Args:
        given: Options and images.

    Raises:
        UserError: The batch does not divide, or may not be divided here, or perturbations do not
            fit into memory.
    """
    config, splits = given.config, given.splits
    size, key = config.atd.batch_size, "atd.batch_size"
    assert splits.outlier_train is not None
    streams = equal_batches(
        given.stream(splits.id_train, size, key, "id"),
        given.stream(splits.outlier_train, size, key, "outlier"),
    )
    whole = config.atd.as_released and config.atd.normalisation == "batch"
    if whole and config.atd.finetune and streams[0].micro_batches > 1:
        raise UserError(
            f"run.device_batch={config.run.device_batch}: atd.finetune=true with "
            "atd.as_released=true learns from whole batches, for their statistics; use "
            "run.device_batch=0, a smaller atd.batch_size or more processes"
        )
    if config.atd.adversarial and config.atd.attack_start == "carried":
        shape = (config.data.channels, *2 * (config.data.image_size,))
        require_room(streams, shape, config.loader.memory_mb)
    return streams


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

"""Networks from options and image sets: backbone, detector and generator of a run."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from atd.backbones import Backbone, build_backbone
from atd.config import Config
from atd.data.images import ImageSet, batches
from atd.data.splits import DataSplits
from atd.detectors.atd import ATD
from atd.detectors.config import DetectorConfig
from atd.detectors.gan import FeatureGenerator, PixelGenerator
from atd.provenance import provenance

__all__ = ["FIT_IMAGES", "detector_config", "new_backbone", "new_generator", "standardise"]

FIT_IMAGES = 4096
"""Images from which statistics are estimated."""

_TURNS = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")


def new_backbone(config: Config, splits: DataSplits) -> Backbone:
    """Builds an untrained backbone that normalises by the statistics of the ID images.

    Args:
        config: All options.
        splits: The image sets; unlabelled ID images get four classes, the quarter turns.

    Returns:
        The backbone, on the CPU, channels last.
    """
    mean, std = splits.id_train.channel_statistics()
    backbone = build_backbone(
        config.backbone,
        channels=config.data.channels,
        classes=len(splits.id_train.classes) or len(_TURNS),
        image_size=config.data.image_size,
        mean=mean.tolist(),
        std=std.tolist(),
    )
    return backbone.to(memory_format=torch.channels_last)


def detector_config(config: Config, splits: DataSplits) -> DetectorConfig:
    """Describes the detector that a config trains."""
    backbone = dataclasses.asdict(config.backbone) if config.atd.features == "backbone" else None
    return DetectorConfig(
        kind="atd",
        name=config.run.name,
        backbone=backbone,
        classes=list(splits.id_train.classes or _TURNS),
        image_size=config.data.image_size,
        channels=config.data.channels,
        options={"normalisation": config.atd.normalisation},
        training=dataclasses.asdict(config),
        provenance=provenance(config, seed=config.run.seed, seconds=0.0),
    )


def standardise(detector: ATD, splits: DataSplits, config: Config) -> Tensor:
    """Sets the detector's feature statistics from clean ID training images.

    Args:
        detector: The detector with its trained backbone; its buffers are changed in place.
        splits: The image sets.
        config: All options.

    Returns:
        Features (N, F) of ID images and outliers as the discriminator sees them; empty for a
        discriminator of pixels.
    """
    if detector.backbone is None:
        return torch.zeros(0)
    inside = _features(detector, splits.id_train, config.run.seed)
    outside = _features(detector, splits.outlier_train, config.run.seed)
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


def new_generator(config: Config, features: Tensor) -> nn.Module | None:
    """Builds the untrained generator that a config asks for.

    Args:
        config: All options.
        features: Features (N, F) of real images, whose smallest values bound the generated ones.

    Returns:
        The generator, on the CPU; None for `atd.generator=none`.
    """
    atd, data = config.atd, config.data
    if atd.generator == "none":
        return None
    if atd.features == "pixels":
        return PixelGenerator(data.channels, data.image_size, atd.latent_dim, atd.normalisation)
    floor = features.amin(0).cpu()
    return FeatureGenerator(features.shape[1], atd.latent_dim, floor, atd.normalisation)

"""Which backbone a config chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from atd.backbones.base import Backbone
from atd.backbones.residual import ResidualBackbone
from atd.config import BackboneConfig
from atd.errors import UserError

__all__ = ["build_backbone", "default_stem_stride"]

_WIDE_STEM = 16


def default_stem_stride(image_size: int) -> int:
    """The stride of a stem for images of a size, where `backbone.stem_stride` is 0."""
    return 1 if image_size <= 64 else 2 if image_size <= 128 else 4


def build_backbone(
    config: BackboneConfig,
    *,
    channels: int,
    classes: int,
    image_size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Backbone:
    """Builds a backbone with fresh weights (`atd.backbones.weights.load_weights` fills them).

    Under `torch.device("meta")` nothing is allocated, whatever the options ask for.

    Args:
        config: Architecture, width, activation, stem and kind of features, and the mean and
            standard deviation that take precedence over those given here.
        channels: Channels of an image.
        classes: Number of ID classes, without that of outliers; an `import:` backbone has its own.
        image_size: Height and width of an image in pixels.
        mean: Per-channel mean on [0, 1] for the normalisation inside; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.

    Returns:
        The backbone, in training mode.

    Raises:
        UserError: The library is missing, or the model is unknown or does not suit the images.
    """
    classes += config.outlier_class
    if config.denoising:
        built = _denoising(config, channels, classes, image_size, mean, std)
    else:
        built = _build(config, channels, classes, image_size, mean, std)
    built.config = config
    return built


def _denoising(
    config: BackboneConfig,
    channels: int,
    classes: int,
    image_size: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Backbone:
    """A backbone in OSAD's wrapper, which normalises the images for it."""
    from atd.backbones.denoising import DenoisingBackbone

    plain = dataclasses.replace(config, denoising=False, mean=[], std=[])
    inner = _build(plain, channels, classes, image_size, None, None)
    if config.architecture.startswith("import:"):  # normalisation is its own affair
        mean = std = None
    mean = _one_per_channel("mean", config.mean, channels) or mean
    std = _one_per_channel("std", config.std, channels) or std
    return DenoisingBackbone(inner, channels=channels, image_size=image_size, mean=mean, std=std)


def _build(
    config: BackboneConfig,
    channels: int,
    classes: int,
    image_size: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Backbone:
    for key, value, most in (
        ("data.image_size", image_size, 4096),
        ("data.channels", channels, 16),
        ("the number of classes", classes, 1_000_000),
    ):
        if not 1 <= value <= most:
            raise UserError(f"{key}={value} is out of range: it must be from 1 to {most}")
    given_mean, given_std = (
        _one_per_channel(key, values, channels)
        for key, values in (("mean", config.mean), ("std", config.std))
    )
    common: dict[str, Any] = {
        "channels": channels,
        "features": config.features,
        "mean": given_mean or mean,
        "std": given_std or std,
    }
    kind, _, name = config.architecture.partition(":")
    match kind:
        case "timm":
            from atd.backbones.timm import TimmBackbone

            return TimmBackbone(name, classes=classes, image_size=image_size, **common)
        case "torchvision":
            from atd.backbones.torchvision import TorchvisionBackbone

            return TorchvisionBackbone(name, classes=classes, image_size=image_size, **common)
        case "import":
            from atd.backbones.imported import imported_backbone

            # Normalisation is its own affair, unless it was asked for.
            common |= {"mean": given_mean, "std": given_std}
            return imported_backbone(name, image_size=image_size, **common)
        case _:
            return _residual(config, classes, image_size, common)


def _residual(
    config: BackboneConfig, classes: int, image_size: int, common: dict[str, Any]
) -> ResidualBackbone:
    wide = config.architecture.startswith("wide_")
    groups = 3 if wide else 4
    depth = {"wide_resnet28": 4, "wide_resnet34": 5}.get(config.architecture, 2)
    backbone = ResidualBackbone(
        [config.width * 2**group for group in range(groups)],
        [depth] * groups,
        stem_width=_WIDE_STEM if wide else config.width,
        stem_stride=config.stem_stride or default_stem_stride(image_size),
        activation=config.activation,
        wide=wide,
        classes=classes,
        **common,
    )
    backbone.title = f"{config.architecture} of width {config.width}"
    return backbone


def _one_per_channel(key: str, values: Sequence[float], channels: int) -> list[float] | None:
    """A normalisation of the config: none, one for all channels, or one for each."""
    if not values:
        return None
    if len(values) not in (1, channels):
        raise UserError(f"backbone.{key} has {len(values)} values, but images have {channels}")
    return [*values] * (channels // len(values))

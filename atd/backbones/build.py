"""Which backbone a config chooses."""

from __future__ import annotations

from collections.abc import Sequence

from atd.backbones.base import Backbone
from atd.backbones.residual import ResidualBackbone
from atd.config import BackboneConfig

__all__ = ["build_backbone"]

_WIDE_STEM = 16


def _stem_stride(image_size: int) -> int:
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
    """Builds a backbone with fresh weights (`atd.backbones.robustbench.load_weights` fills them).

    Args:
        config: Architecture, width, activation, stem and kind of features.
        channels: Channels of an image, 1 or 3.
        classes: Number of ID classes.
        image_size: Height and width of an image in pixels.
        mean: Per-channel mean on [0, 1] for the normalisation inside; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.

    Returns:
        The backbone, in training mode.

    Raises:
        UserError: timm is missing, or its model is unknown or does not suit the images.
    """
    built = _build(config, channels, classes, image_size, mean, std)
    built.config = config
    return built


def _build(
    config: BackboneConfig,
    channels: int,
    classes: int,
    image_size: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Backbone:
    if config.architecture.startswith("timm:"):
        from atd.backbones.timm import TimmBackbone

        return TimmBackbone(
            config.architecture.removeprefix("timm:"),
            channels=channels,
            classes=classes,
            image_size=image_size,
            features=config.features,
            mean=mean,
            std=std,
        )
    wide = config.architecture.startswith("wide_")
    groups = 3 if wide else 4
    depth = {"wide_resnet28": 4, "wide_resnet34": 5}.get(config.architecture, 2)
    return ResidualBackbone(
        [config.width * 2**group for group in range(groups)],
        [depth] * groups,
        stem_width=_WIDE_STEM if wide else config.width,
        stem_stride=config.stem_stride or _stem_stride(image_size),
        activation=config.activation,
        wide=wide,
        channels=channels,
        classes=classes,
        features=config.features,
        mean=mean,
        std=std,
    )

"""A detector from its description, with fresh weights."""

from __future__ import annotations

from typing import Any

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.config.values import build
from atd.detectors.base import Detector
from atd.detectors.config import DetectorConfig
from atd.detectors.kinds import kind_class

__all__ = ["build_detector"]


def build_detector(config: DetectorConfig) -> Detector:
    """Builds the detector that a description tells of.

    Args:
        config: The description.

    Returns:
        The detector, in training mode, with fresh weights, and described by `config`.

    Raises:
        UserError: Unknown kind, or options that do not suit the backbone.
        ValueError: An option that there is not, of another type, or out of range.
    """
    kind = kind_class(config.kind)
    options: Any = build(kind.Options, config.options, "options", stored=True)
    backbone = None
    if config.backbone is not None:
        backbone = build_backbone(
            build(BackboneConfig, {**config.backbone, "weights": ""}, "backbone", stored=True),
            channels=config.channels,
            classes=max(1, len(config.classes)),
            image_size=config.image_size,
        )
    of: dict[str, Any] = {"image_size": config.image_size, "channels": config.channels}
    detector = kind(backbone, options, classes=config.classes, **of)
    detector.config = config
    return detector

"""ATD's detector (Azizmalayeri et al., NeurIPS 2022, arXiv:2209.15246).

images -> backbone -> features -> discriminator -> logit -> score
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from atd.backbones.base import Backbone
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.gan import FeatureDiscriminator, PixelDiscriminator
from atd.errors import UserError
from atd.inference import at_least_float32

__all__ = ["ATD", "ATDOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ATDOptions:
    """Options of ATD's detector; those of its training are `atd.config.AtdConfig`."""

    normalisation: Literal["batch", "layer", "none"] = "layer"
    """Normalisation inside the discriminator."""
    batch_statistics: bool = False
    """Batch normalisation takes the statistics of the batch that is scored, as where OpenGAN's
    discriminator is evaluated in training mode (Kong & Ramanan, 2021, arXiv:2104.02939). Scores
    then depend on batch mates: to show what this leak is worth, and for nothing else."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class _BatchStatistics(TorchFunctionMode):
    """Within it, batch normalisation takes the statistics of its batch and changes no others."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func is not F.batch_norm:
            return func(*args, **given)
        without = {"running_mean": None, "running_var": None, "training": True}
        return func(args[0], **{**given, **without})


class ATD(Detector):
    """Scores an image by a discriminator that was trained under attack.

    Args:
        backbone: The feature extractor; None for a discriminator of pixels.
        options: Its options.
        of: As of every `Detector`.
    """

    kind = "atd"
    Options = ATDOptions
    info = DetectorInfo(
        title="ATD",
        paper="Azizmalayeri et al., 2022, arXiv:2209.15246",
        needs=frozenset({"outliers", "training"}),
    )

    options: ATDOptions
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self, backbone: Backbone | None, options: ATDOptions | None = None, **of: Any
    ) -> None:
        super().__init__(backbone, options, **of)
        normalisation, dimension = self.options.normalisation, 1
        if backbone is not None:
            dimension = int(backbone.feature_dim)
            self.discriminator: nn.Module = FeatureDiscriminator(dimension, normalisation)
        else:
            channels, size = self.config.channels, self.config.image_size
            self.discriminator = PixelDiscriminator(channels, size, normalisation)
        self.register_buffer("feature_mean", torch.zeros(dimension))
        self.register_buffer("feature_std", torch.ones(dimension))
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """What the discriminator sees.

        Args:
            images: (N, C, H, W) in [0, 1].

        Returns:
            Standardised backbone features (N, F), or the images for a discriminator of pixels.
        """
        if self.backbone is None:
            return images
        return self.standardised(self.backbone.features(images))

    def standardised(self, features: Tensor) -> Tensor:
        """Backbone features (N, F) as the discriminator sees them, of unit standard deviation."""
        # Mixed precision ends here.
        return (at_least_float32(features) - self.feature_mean) / self.feature_std

    def forward(self, images: Tensor) -> Tensor:
        """Raw OOD logits (N,) of float images (N, C, H, W) in [0, 1]."""
        features = self.features(images)
        leaks = self.options.batch_statistics and len(images) > 1
        with _BatchStatistics() if leaks else contextlib.nullcontext():
            logits: Tensor = self.discriminator(features)
        return logits

    @torch.no_grad()
    def set_statistics(self, features: Tensor) -> None:
        """Sets mean and deviation from features (N, F) of ID images."""
        std = features.std(0)
        self.feature_mean.copy_(features.mean(0))
        # A feature that hardly varies must not be blown up: that would amplify attacks.
        self.feature_std.copy_(std.clamp_min(0.1 * float(std.mean())).clamp_min(1e-6))

    def check(self, file: Path) -> None:
        """Refuses deviations that are not positive."""
        if not (self.feature_std > 0).all():
            raise UserError(f"{file}: damaged: feature_std holds values that are not positive")

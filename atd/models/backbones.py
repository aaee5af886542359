"""Feature extractors: what they have in common, and how a config chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from atd.config import BackboneConfig
from atd.models.precision import at_least_float32

__all__ = ["Backbone", "Features", "build_backbone", "pool_mean", "pool_statistics"]

Features = Literal["last", "multi"]

_STATISTICS_EPS = 1e-5
_WIDE_STEM = 16


def pool_mean(maps: Tensor) -> Tensor:
    """Global average over space in at least float32: (N, C, H, W) -> (N, C)."""
    return at_least_float32(maps).mean(dim=(2, 3))


def pool_statistics(maps: Tensor) -> Tensor:
    """Mean and standard deviation over space: (N, C, H, W) -> (N, 2C).

    The small constant under the root keeps the gradient finite where a channel is constant.
    """
    # In two passes over rows of channels: on the CPU `torch.var_mean` takes three times as long.
    pixels = at_least_float32(maps).movedim(1, -1).flatten(1, 2)
    mean = pixels.mean(dim=1)
    variance = (pixels - mean[:, None]).square().mean(dim=1)
    return torch.cat([mean, torch.sqrt(variance + _STATISTICS_EPS)], dim=1)


class Backbone(nn.Module):
    """A classifier whose inner feature maps are used to tell ID from OOD.

    Images are float NCHW in [0, 1]; normalisation with the buffers `mean` and `std`
    happens inside.

    Args:
        stage_channels: Channels of the maps that `stages` returns.
        channels: Channels of an image.
        classes: Number of ID classes.
        features: `last` or `multi`, see `features`.
        mean: Per-channel mean on [0, 1]; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        stage_channels: Sequence[int],
        *,
        channels: int,
        classes: int,
        features: Features,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.embedding_dim = stage_channels[-1]
        self.feature_dim = 2 * sum(stage_channels) if features == "multi" else stage_channels[-1]
        self._multi = features == "multi"
        shape = (1, channels, 1, 1)
        self.register_buffer("mean", torch.tensor(mean or [0.0] * channels).view(shape))
        self.register_buffer("std", torch.tensor(std or [1.0] * channels).view(shape))

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] -> what the first convolution sees."""
        return (images - self.mean) / self.std

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, H_i, W_i) of four depths; the last after the final activation."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor:
        """Pooled last map (N, embedding_dim) -> class logits (N, classes)."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """What the discriminator sees, (N, feature_dim).

        `last` is the global average of the last map; `multi` joins mean and standard deviation
        over space of all four depths, shallowest first.
        """
        if not self._multi:
            return self.embed(images)
        return torch.cat([pool_statistics(maps) for maps in self.stages(images)], dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """The pooled last map (N, embedding_dim), whatever `features` is."""
        return pool_mean(self.stages(images)[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, classes)."""
        return self.classify(self.embed(images))


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
    """Builds a backbone with fresh weights (`atd.models.robustbench.load_weights` fills them).

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
    # Each kind of backbone builds on this module.
    if config.architecture.startswith("timm:"):
        from atd.models.timm_backbone import TimmBackbone

        return TimmBackbone(
            config.architecture.removeprefix("timm:"),
            channels=channels,
            classes=classes,
            image_size=image_size,
            features=config.features,
            mean=mean,
            std=std,
        )
    from atd.models.residual import ResidualBackbone

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

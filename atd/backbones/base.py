"""Feature extractors: what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from atd.backbones.activations import Select, record
from atd.config import BackboneConfig
from atd.inference import at_least_float32

__all__ = ["Backbone", "Features", "pool_mean", "pool_statistics"]

Features = Literal["last", "multi"]

_STATISTICS_EPS = 1e-5


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

    A kind of backbone writes `stages` and `classify`, and `embed` and `forward` where they are
    not the mean of the last map and the logits of the embedding.

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
    config: BackboneConfig | None = None
    """What it was built from; a detector is saved with it."""
    customary: tuple[Sequence[float], Sequence[float]] | None = None
    """Mean and deviation that such a network is usually trained with, where that is known."""
    per_pixel: bool = False
    """Whether it gives classes of every pixel and none of the image."""
    title: str = "this backbone"
    """What messages call it."""
    head_name: str = "head"
    """The layer that gives the logits, by its name within the backbone."""
    stage_layers: tuple[str, ...] = ()
    """Labels under which `activations` finds what `stages` returns."""

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

    @property
    def lacks_head(self) -> bool:
        """Whether all class logits are zero, as after weights without a head that fits."""
        head = f"{self.head_name}."
        found = [value for name, value in self.named_parameters() if name.startswith(head)]
        return bool(found) and not any(bool(value.any()) for value in found)

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] -> what the first convolution sees."""
        return (images - self.mean) / self.std

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, H_i, W_i) of up to four depths, shallowest first."""
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

    def logits(self, images: Tensor) -> Tensor:
        """Class logits (N, classes), the same as a call."""
        logits: Tensor = self(images)
        return logits

    def activations(self, images: Tensor, select: Select) -> list[tuple[str, Tensor]]:
        """What the selected layers give out, with their labels; see `activations.record`."""
        return record(self, images, select).activations

"""The network of OSAD: denoising layers, a decoder and a rotation head around any backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atd.backbones.activations import record
from atd.backbones.base import Backbone
from atd.backbones.stages import as_maps
from atd.errors import UserError
from atd.inference import frozen

__all__ = ["TURNS", "DenoisingBackbone"]

TURNS = 4
"""Rotations that are told apart: by 0, 90, 180 and 270 degrees."""

_WIDEST, _NARROWEST = 256, 16
"""Channels of the decoder's first and last maps."""
_SMALLEST = 4
"""Largest side of the map that it begins with."""


class _Attention(nn.Module):
    """Maps (N, C, H, W) plus their means weighted by likeness, over places and over channels.

    The places are weighed as by a non-local block with an embedded Gaussian (Wang et al. 2018,
    arXiv:1711.07971), the channels by their own likeness (Fu et al. 2019, arXiv:1809.02983). Both
    begin as nothing: the last normalisation starts at zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.places, self.channels = (
            nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels)) for _ in range(2)
        )
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for branch in (self.places, self.channels):
            nn.init.zeros_(branch[1].weight)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        query, key, value = (layer(maps).flatten(2) for layer in (self.query, self.key, self.value))
        by_place = value @ torch.softmax(query.mT @ key, 2).mT
        by_channel = torch.softmax(query @ key.mT, 2) @ value
        size = maps.shape[2:]
        denoised: Tensor = maps + self.places(by_place.unflatten(2, size))
        return denoised + self.channels(by_channel.unflatten(2, size))


class _Decoder(nn.Module):
    """Embeddings (N, D) -> images (N, C, S, S) in [0, 1], by deconvolutions that double it."""

    def __init__(self, dimension: int, channels: int, size: int) -> None:
        super().__init__()
        doublings = max(0, math.ceil(math.log2(size / _SMALLEST)))
        self.size, self.side = size, math.ceil(size / 2**doublings)
        widths = [max(_NARROWEST, _WIDEST >> at) for at in range(doublings + 1)]
        self.first = nn.Linear(dimension, widths[0] * self.side**2)
        layers: list[nn.Module] = []
        for width, narrower in zip(widths, widths[1:], strict=False):
            layers += [
                nn.ConvTranspose2d(width, narrower, 4, stride=2, padding=1, bias=False),
                nn.GroupNorm(1, narrower),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, embedding: Tensor) -> Tensor:
        maps = self.first(embedding).unflatten(1, (-1, self.side, self.side))
        images: Tensor = self.layers(maps)[..., : self.size, : self.size]
        return torch.sigmoid(images)


class DenoisingBackbone(Backbone):
    """A backbone whose maps are denoised at every stage, with what OSAD's training adds.

    Shao et al., ECCV 2020 (arXiv:2009.00814). Differences from the published network: maps are
    denoised at the (up to four) depths of the wrapped backbone, not after the stem as well;
    beside the published code's attention over places there is one over channels, as the ATD paper
    speaks of dual attention; the latent vector is the backbone's own embedding, without a further
    layer; the decoder is narrower, has group normalisation, which is the same in training and in
    evaluation, and gives images in [0, 1].

    Args:
        inner: The backbone that is wrapped, which does not normalise images; it is changed.
        channels: Channels of an image.
        image_size: Height and width of an image.
        mean: Per-channel mean on [0, 1]; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.

    Raises:
        UserError: The stages of the backbone are not layers that give maps.
    """

    def __init__(
        self,
        inner: Backbone,
        *,
        channels: int,
        image_size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            _denoise(inner, channels, image_size),
            channels=channels,
            classes=inner.classes,
            features="multi" if inner._multi else "last",
            mean=mean,
            std=std,
        )
        self.embedding_dim, self.feature_dim = inner.embedding_dim, inner.feature_dim
        self.customary, self.title = inner.customary, f"{inner.title} with denoising layers"
        self.head_name = f"inner.{inner.head_name}"
        self.stage_layers = tuple(f"inner.{label}" for label in inner.stage_layers)
        self.inner = inner
        self.decoder = _Decoder(self.embedding_dim, channels, image_size)
        self.rotation = nn.Linear(self.embedding_dim, TURNS)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Denoised maps (N, C_i, H_i, W_i) of up to four depths, shallowest first."""
        return self.inner.stages(self.normalise(images))

    def embed(self, images: Tensor) -> Tensor:
        """The embedding (N, embedding_dim) of the wrapped backbone."""
        return self.inner.embed(self.normalise(images))

    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding (N, embedding_dim) -> class logits (N, classes)."""
        return self.inner.classify(embedding)

    def heads(self, images: Tensor) -> Tensor:
        """Class logits and, behind them, rotation logits (N, classes + 4)."""
        return self._heads(self.embed(images))

    def heads_and_image(self, images: Tensor) -> Tensor:
        """`heads` and, behind them, the pixels of the reconstruction (N, classes + 4 + CHW)."""
        embedding = self.embed(images)
        return torch.cat([self._heads(embedding), self.decoder(embedding).flatten(1)], 1)

    def _heads(self, embedding: Tensor) -> Tensor:
        return torch.cat([self.classify(embedding), self.rotation(embedding)], 1)


@torch.no_grad()
def _denoise(inner: Backbone, channels: int, image_size: int) -> list[int]:
    """Puts a denoising layer behind each stage of a backbone; returns the stages' channels."""
    images = inner.mean.new_zeros(1, channels, image_size, image_size)
    with frozen(inner):
        found = record(inner, images, inner.stage_layers).activations
    widths: list[int] = []
    for label, value in found:
        maps = as_maps(value)
        if "#" in label or maps is None or maps.shape != value.shape:
            raise UserError(
                f"backbone.denoising: OSAD denoises maps (N, C, H, W), but {label} of "
                f"{inner.title} gives others; choose a convolutional backbone, e.g. "
                "backbone.architecture=preact_resnet18"
            )
        layer = inner.get_submodule(label)
        inner.set_submodule(label, nn.Sequential(layer, _Attention(maps.shape[1])))
        widths.append(maps.shape[1])
    if not widths:
        raise UserError(f"backbone.denoising: {inner.title} has no inner maps that OSAD denoises")
    return widths

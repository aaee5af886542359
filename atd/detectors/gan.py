"""Generators and discriminators of ATD: of features, and DCGAN-style of pixels.

Every discriminator ends in a raw logit of being out-of-distribution, so the paper's D(x),
the probability of being in-distribution, is `sigmoid(-logit)`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FeatureDiscriminator", "FeatureGenerator", "PixelDiscriminator", "PixelGenerator"]

Normalisation = Literal["batch", "layer", "none"]


def _normalisation(kind: Normalisation, width: int) -> nn.Module:
    match kind:
        case "batch":
            return nn.BatchNorm1d(width)
        case "layer":
            return nn.LayerNorm(width)
        case "none":
            return nn.Identity()


def _initialise(module: nn.Module) -> None:
    """DCGAN's initialisation: weights N(0, 0.02), normalisation scales N(1, 0.02)."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class FeatureDiscriminator(nn.Sequential):
    """The paper's discriminator of features: 512 -> 512 -> 256 -> 128 -> 64 -> 1.

    Its 1x1 convolutions over 1x1 maps are linear layers. The three middle layers are
    normalised. Layer normalisation treats each sample alone, so the attack, the update and
    the shipped detector all see the same function; with batch statistics they do not.

    Args:
        dimension: Width of the features.
        normalisation: `layer`, `none`, or `batch` as published.
    """

    def __init__(self, dimension: int, normalisation: Normalisation = "layer") -> None:
        bias = normalisation == "none"
        layers: list[nn.Module] = [nn.Linear(dimension, 512, bias=bias), nn.LeakyReLU(0.2)]
        for wide, narrow in ((512, 256), (256, 128), (128, 64)):
            layers += [nn.Linear(wide, narrow, bias=bias), _normalisation(normalisation, narrow)]
            layers += [nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Linear(64, 1, bias=bias))
        self.apply(_initialise)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (N, dimension) to raw OOD logits (N,)."""
        return super().forward(features).flatten()


class FeatureGenerator(nn.Module):
    """The paper's generator of features: 100 -> 512 -> 256 -> 128 -> 256 -> dimension.

    Args:
        dimension: Width of the features.
        latent: Width of the noise.
        floor: Smallest value that each feature of the backbone can take (dimension,), in the
            units in which the discriminator sees it. A linear output would leave the range
            of pooled activations and be told apart by that alone.
        normalisation: As in the discriminator.
    """

    floor: Tensor

    def __init__(
        self, dimension: int, latent: int, floor: Tensor, normalisation: Normalisation = "layer"
    ) -> None:
        super().__init__()
        self.latent = latent
        layers: list[nn.Module] = []
        widths = (latent, 512, 256, 128, 256)
        for before, after in zip(widths, widths[1:], strict=False):
            bias = normalisation == "none"
            layers += [nn.Linear(before, after, bias=bias), _normalisation(normalisation, after)]
            layers += [nn.ReLU()]
        last = nn.Linear(256, dimension)
        self.layers = nn.Sequential(*layers, last)
        self.register_buffer("floor", floor.clone())
        self.apply(_initialise)
        nn.init.normal_(last.weight, 0.0, 256**-0.5)

    def forward(self, noise: Tensor) -> Tensor:
        """Maps noise (N, latent) to features (N, dimension) in the backbone's range."""
        return self.floor + F.softplus(self.layers(noise) - self.floor)


class PixelDiscriminator(nn.Module):
    """DCGAN's discriminator of images, for the ablation without a backbone.

    Group normalisation with one group stands in for layer normalisation on maps.

    Args:
        channels: 1 or 3.
        image_size: Side in pixels, at least 8; halved until 4 are left.
        normalisation: `layer`, `none`, or `batch` as in DCGAN.
        width: Channels of the first layer.
    """

    def __init__(
        self, channels: int, image_size: int, normalisation: Normalisation, width: int = 64
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, after, size = channels, width, image_size
        while size > 4:
            layers.append(nn.Conv2d(before, after, 4, 2, 1))
            if layers[:-1]:
                layers.append(_map_normalisation(normalisation, after))
            layers.append(nn.LeakyReLU(0.2))
            before, after, size = after, min(2 * after, 8 * width), size // 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, size))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (N, C, H, W) in [0, 1] to raw OOD logits (N,)."""
        return self.layers(2 * images - 1).mean((2, 3)).flatten()


class PixelGenerator(nn.Module):
    """DCGAN's generator of images in [0, 1], the range the real images live in.

    Args:
        channels: 1 or 3.
        image_size: Side in pixels.
        latent: Width of the noise.
        normalisation: As in the discriminator.
        width: Channels of the last hidden layer.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        latent: int,
        normalisation: Normalisation,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.latent, self.image_size = latent, image_size
        doublings = max(1, (image_size - 1).bit_length() - 2)
        before = width * 2 ** min(doublings - 1, 3)
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, before, 4)]
        for _ in range(doublings - 1):
            after = max(width, before // 2)
            layers += [_map_normalisation(normalisation, before), nn.ReLU()]
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1)]
            before = after
        layers += [_map_normalisation(normalisation, before), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(before, channels, 4, 2, 1))
        self.apply(_initialise)

    def forward(self, noise: Tensor) -> Tensor:
        """Maps noise (N, latent) to images (N, C, image_size, image_size) in [0, 1]."""
        images = torch.sigmoid(self.layers(noise[:, :, None, None]))
        start = (images.shape[-1] - self.image_size) // 2
        return images[:, :, start : start + self.image_size, start : start + self.image_size]


def _map_normalisation(kind: Normalisation, width: int) -> nn.Module:
    match kind:
        case "batch":
            return nn.BatchNorm2d(width)
        case "layer":
            return nn.GroupNorm(1, width)
        case "none":
            return nn.Identity()

"""Feature extractors: pre-activation ResNet-18 and WideResNet, for images of 8 to 512 pixels.

Both follow the layout that RobustBench's robust CIFAR models use (Gowal et al., 2020,
arXiv:2010.03593), so that those weights give the same logits here: `same` padding at stride 2
adds its one row and column at the bottom right, and normalisation lies inside the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from atd.config import BackboneConfig
from atd.models.precision import at_least_float32

__all__ = [
    "Backbone",
    "ResidualBackbone",
    "ResidualBlock",
    "build_backbone",
    "pool_mean",
    "pool_statistics",
]

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


class _Conv3x3(nn.Conv2d):
    """TensorFlow's `same` padding: at stride 2 an even size is padded only at the bottom right."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        padding = 1 if stride == 1 else 0
        super().__init__(inputs, outputs, 3, stride=stride, padding=padding, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.stride == (1, 1):
            return super().forward(input)
        height, width = input.shape[-2:]
        return super().forward(functional.pad(input, (width % 2, 1, height % 2, 1)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and activation, plus a shortcut.

    A `wide` block projects the activated input with a 1x1 convolution; otherwise the raw
    input is projected with a 3x3 convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: type[nn.Module], wide: bool
    ) -> None:
        super().__init__()
        self.wide = wide
        self.activation = activation()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = _Conv3x3(inputs, outputs, stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = _Conv3x3(outputs, outputs)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            narrow = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = narrow if wide else _Conv3x3(inputs, outputs, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        active = self.activation(self.norm1(maps))
        skip = maps if self.shortcut is None else self.shortcut(active if self.wide else maps)
        residual = self.conv2(self.activation(self.norm2(self.conv1(active))))
        out: Tensor = skip + residual
        return out


def _stem(channels: int, width: int, stride: int, activation: type[nn.Module]) -> nn.Sequential:
    """A 3x3 convolution; strides above 2 are stacks of stride-2 convolutions.

    Stacked small kernels instead of ResNet's 7x7 with pooling: such convolutional stems train
    to higher robust accuracy (Singh et al., 2023, arXiv:2303.01870).
    """
    layers: list[nn.Module] = [_Conv3x3(channels, width, min(stride, 2))]
    for _ in range(int(math.log2(stride)) - 1):
        layers += [nn.BatchNorm2d(width), activation(), _Conv3x3(width, width, 2)]
    return nn.Sequential(*layers)


class ResidualBackbone(Backbone):
    """A pre-activation residual network (He et al., 2016; Zagoruyko & Komodakis, 2016).

    Args:
        widths: Channels of each group of blocks; every group after the first halves the map.
        depths: Blocks in each group.
        stem_width: Channels of the stem.
        stem_stride: 1, 2, 4 or 8.
        activation: `relu` or `silu`.
        wide: WideResNet blocks; their stem counts as the first of the four stages.
        channels: Channels of an image.
        classes: Number of ID classes.
        features: `last` or `multi`.
        mean: Per-channel mean on [0, 1]; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        stem_width: int,
        stem_stride: int,
        activation: Literal["relu", "silu"],
        wide: bool,
        channels: int,
        classes: int,
        features: Features,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            [stem_width, *widths][-4:],
            channels=channels,
            classes=classes,
            features=features,
            mean=mean,
            std=std,
        )
        act: type[nn.Module] = {"relu": nn.ReLU, "silu": nn.SiLU}[activation]
        self.stem = _stem(channels, stem_width, stem_stride, act)
        self.groups = nn.ModuleList()
        inputs = stem_width
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(ResidualBlock(inputs, width, stride, act, wide))
                inputs = width
            self.groups.append(nn.Sequential(*blocks))
        self.norm = nn.BatchNorm2d(inputs)
        self.activation = act()
        self.head = nn.Linear(inputs, classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, H_i, W_i) of four depths; the last after the final activation."""
        maps = self.stem(self.normalise(images))
        found = [maps]
        for group in self.groups:
            maps = group(maps)
            found.append(maps)
        found[-1] = self.activation(self.norm(maps))
        return found[-4:]

    def classify(self, embedding: Tensor) -> Tensor:
        """Pooled last map (N, embedding_dim) -> class logits (N, classes)."""
        logits: Tensor = self.head(embedding)
        return logits


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

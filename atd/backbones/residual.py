"""Pre-activation ResNet-18 and WideResNet, for images of 8 to 512 pixels.

Both follow the layout that RobustBench's robust CIFAR models use (Gowal et al., 2020,
arXiv:2010.03593), so that those weights give the same logits here: `same` padding at stride 2
adds its one row and column at the bottom right, and normalisation lies inside the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from atd.backbones.base import Backbone, Features

__all__ = ["ResidualBackbone", "ResidualBlock"]


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
        names = ["stem", *(f"groups.{index}" for index in range(len(widths) - 1)), "activation"]
        self.stage_layers = tuple(names[-4:])
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

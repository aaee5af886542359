"""Random crop and flip, drawn for every sample: the same for ID images and outliers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["augment", "draw"]


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Draws the random numbers that `augment` uses.

    A process that handles a part of a batch can draw for the whole batch and pass its own rows
    to `augment`; the images are then the same for any number of processes.

    Args:
        count: Number of samples.
        generator: Source of randomness.

    Returns:
        (count, 3) float32 in [0, 1) on the generator's device: row shift, column shift, flip.
    """
    return torch.rand(count, 3, generator=generator, device=generator.device)


def augment(
    images: Tensor, kind: Literal["none", "crop", "crop-flip"], generator: torch.Generator | Tensor
) -> Tensor:
    """Shifts (and mirrors) every image by its own random amount.

    A shift reaches one eighth of the side, as in padding by 4 and cropping at 32 px. The border
    is filled by reflection: black bars would be a cue that the test images do not have.

    Args:
        images: (N, C, H, W), any dtype, any device.
        kind: `none`, `crop` (shift) or `crop-flip` (shift and mirror at random).
        generator: Source of randomness, or the result of `draw` for these images.

    Returns:
        A tensor like `images`.
    """
    if kind == "none" or len(images) == 0:
        return images
    drawn = generator if isinstance(generator, Tensor) else draw(len(images), generator)
    drawn = drawn.to(images.device)
    height, width = images.shape[-2:]
    rows = _shifted(height, drawn[:, 0])
    columns = _shifted(width, drawn[:, 1])
    if kind == "crop-flip":
        columns = torch.where(drawn[:, 2:] < 0.5, columns.flip(1), columns)
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put the channels last.
    shifted = images[sample, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2).contiguous()


def _shifted(size: int, drawn: Tensor) -> Tensor:
    """(N, size) source positions of a line shifted by up to an eighth, reflected at the ends."""
    reach = max(1, round(size / 8))
    shift = (drawn * (2 * reach + 1)).long().clamp_(max=2 * reach) - reach
    positions = torch.arange(size, device=drawn.device) + shift[:, None]
    return (size - 1) - ((size - 1) - positions.abs()).abs()

"""Random crop and flip, drawn for every sample: the same for ID images and outliers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["augment", "draw", "put_back"]


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
        A tensor like `images`; unless nothing was to be done, its channels come last in memory.
    """
    if kind == "none" or len(images) == 0:
        return images
    drawn = generator if isinstance(generator, Tensor) else draw(len(images), generator)
    drawn = drawn.to(images.device)
    height, width = images.shape[-2:]
    rows = _reflected(_positions(height, drawn[:, 0]), height)
    columns = _reflected(_positions(width, drawn[:, 1]), width)
    if kind == "crop-flip":
        columns = torch.where(drawn[:, 2:] < 0.5, columns.flip(1), columns)
    return _picked(images, rows, columns)


def put_back(
    augmented: Tensor,
    kind: Literal["none", "crop", "crop-flip"],
    drawn: Tensor,
    originals: Tensor,
) -> Tensor:
    """Undoes `augment`: every pixel goes back to where it came from.

    Args:
        augmented: (N, C, H, W), augmented or in the frame of images that were.
        kind: As given to `augment`.
        drawn: The result of `draw` for these images.
        originals: Tensor like `augmented`, whose pixels stay where the augmented image shows
            nothing of them.

    Returns:
        A tensor like `originals`.
    """
    if kind == "none":
        return augmented
    drawn = drawn.to(augmented.device)
    height, width = augmented.shape[-2:]
    rows = _positions(height, drawn[:, 0], back=True)
    columns = _positions(width, drawn[:, 1], back=True)
    shown = _inside(rows, height)[:, None, :, None] & _inside(columns, width)[:, None, None, :]
    if kind == "crop-flip":
        columns = torch.where(drawn[:, 2:] < 0.5, width - 1 - columns, columns)
    moved = _picked(augmented, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    return torch.where(shown, moved, originals)


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of images (N, C, H, W) at rows (N, H) and columns (N, W) of each one's own."""
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put the channels last, where training wants them in memory.
    picked = images[sample, :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _positions(size: int, drawn: Tensor, back: bool = False) -> Tensor:
    """(N, size) source positions of a line shifted by up to an eighth, or back by as much."""
    reach = max(1, round(size / 8))
    shift = (drawn * (2 * reach + 1)).long().clamp_(max=2 * reach) - reach
    return torch.arange(size, device=drawn.device) + (-shift if back else shift)[:, None]


def _reflected(positions: Tensor, size: int) -> Tensor:
    return (size - 1) - ((size - 1) - positions.abs()).abs()


def _inside(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)

"""Images as people have them -> batches as a detector takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atd.config import Scale
from atd.data.decoding import decode, read_image
from atd.errors import UserError
from atd.inference import as_float

__all__ = ["Images", "image_batches", "require_floats"]

OneImage = Tensor | np.ndarray[Any, Any] | Image.Image | str | os.PathLike[str]
Images = OneImage | Sequence[OneImage]
"""uint8 or float in [0, 1]: tensors (N, C, H, W) and arrays (N, C, H, W) or (N, H, W, C), of one
image without the N; Pillow images and paths of any size; or a list of them."""


def require_floats(images: Tensor, channels: int, size: int) -> None:
    """Refuses what `forward` cannot take.

    Raises:
        UserError: The images are integers or have another shape than (N, channels, size, size).
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise UserError(
            f"images of type {kind}: detector(images) takes floats in [0, 1]; call "
            "detector.score(images), which takes uint8 too, or divide by 255"
        )
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
        raise UserError(_misshapen(images.shape, channels, size))


def image_batches(
    images: Images, *, channels: int, size: int, batch_size: int, scale: Scale = "auto"
) -> Iterator[Tensor]:
    """Decodes images as in training and hands them out in batches.

    Args:
        images: See `Images`.
        channels: 3 or 1.
        size: Side in pixels.
        batch_size: Most images of a batch.
        scale: What is white in files of more than 8 bits, see `DataConfig.scale`.

    Yields:
        Float32 images (B, channels, size, size) in [0, 1], on the device they came from.

    Raises:
        UserError: Images of another type, shape or range, or unreadable files.
    """
    if isinstance(images, Tensor | np.ndarray):
        whole = _checked(images, channels, size)
        yield from (as_float(part) for part in whole.split(batch_size) if len(part))
        return
    items = [images] if isinstance(images, Image.Image | str | os.PathLike) else images
    if not isinstance(items, Sequence):
        raise UserError(
            f"images of type {type(images).__name__}: give a tensor, an array, a Pillow image, a "
            "path, or a list of them"
        )
    for start in range(0, len(items), batch_size):
        some = [_decoded(item, channels, size, scale) for item in items[start : start + batch_size]]
        yield torch.cat([as_float(part) for part in some])


def _decoded(item: OneImage, channels: int, size: int, scale: Scale) -> Tensor:
    if isinstance(item, Image.Image):
        return decode(item, channels, size, scale).unsqueeze(0)
    if isinstance(item, str | os.PathLike):
        return read_image(os.fspath(item), channels, size, scale).unsqueeze(0)
    if isinstance(item, Tensor | np.ndarray):
        return _checked(item, channels, size)
    raise UserError(f"an image of type {type(item).__name__}: give tensors, arrays or paths")


def _checked(images: Tensor | np.ndarray[Any, Any], channels: int, size: int) -> Tensor:
    if isinstance(images, np.ndarray):
        images = _from_array(images, channels, size)
    if images.shape == (channels, size, size):
        images = images.unsqueeze(0)
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
        raise UserError(_misshapen(images.shape, channels, size))
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise UserError(f"images of type {images.dtype}: give uint8, or float in [0, 1]")
    if images.is_floating_point() and images.numel():
        low, high = float(images.min()), float(images.max())
        if not (low >= 0.0 and high <= 1.0):
            raise UserError(f"image values from {low:.3g} to {high:.3g}: floats must lie in [0, 1]")
    return images


def _from_array(array: np.ndarray[Any, Any], channels: int, size: int) -> Tensor:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UserError(f"images of type {array.dtype}: give uint8, or float in [0, 1]")
    if array.shape[-3:] == (size, size, channels) != (channels, size, size):
        array = np.moveaxis(array, -1, -3)
    return torch.from_numpy(np.ascontiguousarray(array))


def _misshapen(shape: torch.Size, channels: int, size: int) -> str:
    return (
        f"images of shape {tuple(shape)}: this detector takes (N, {channels}, {size}, {size}); "
        "Pillow images and paths are resized as in training"
    )

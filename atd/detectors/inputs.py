"""What people give -> what a detector takes: batches of images, a threshold."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atd.config import Scale
from atd.data.python_images import OneImage, misshapen, pixels_of, require_pixels
from atd.errors import UserError
from atd.inference import as_float

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["Images", "as_limit", "image_batches", "only_floats", "require_floats"]

Images = Tensor | np.ndarray[Any, Any] | OneImage | Sequence[OneImage]
"""uint8 or float in [0, 1]: a tensor (N, C, H, W) or an array (N, C, H, W) or (N, H, W, C); one
image, with a Pillow image or a path of any size; or a list of images."""


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
        raise UserError(misshapen(images.shape, channels, size))


def only_floats(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Lets a kind's `forward` see images of the right type and shape only.

    Within `torch.inference_mode`, where nothing can turn gradients on, it is left for the call.
    """

    @functools.wraps(forward)
    def checked(self: Detector, images: Tensor) -> Tensor:
        require_floats(images, self.config.channels, self.config.image_size)
        self.require_fitted()
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return forward(self, images)
        with torch.inference_mode(False), torch.no_grad():
            return forward(self, images.clone())

    return checked


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
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: give at least 1")
    if isinstance(images, Tensor | np.ndarray):
        whole = require_pixels(images, channels, size)
        yield from (as_float(part) for part in whole.split(batch_size) if len(part))
        return
    items = [images] if isinstance(images, Image.Image | str | os.PathLike) else images
    if not isinstance(items, Sequence):
        raise UserError(
            f"images of type {type(images).__name__}: give a tensor, an array, a Pillow image, a "
            "path, or a list of them"
        )
    for start in range(0, len(items), batch_size):
        some = items[start : start + batch_size]
        yield torch.cat([as_float(pixels_of(item, channels, size, scale)) for item in some])


def as_limit(value: Any) -> float:
    """A threshold from whatever holds one number.

    Raises:
        UserError: It is not a finite number.
    """
    try:
        limit = float(value)
    except (TypeError, ValueError, RuntimeError):
        limit = math.nan
    if not math.isfinite(limit):
        raise UserError(f"threshold={str(value)[:60]}: must be a finite number")
    return limit

"""Images as a Python caller has them -> pixels, or a set, as everything else here takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from atd.config import DataConfig, LoaderConfig, Scale
from atd.data.decoding import UnreadableImage, decode, read_image
from atd.data.images import HeldPixels, ImageSet
from atd.data.sources import load_source
from atd.errors import UserError, printable

__all__ = [
    "Given",
    "OneImage",
    "image_set",
    "misshapen",
    "pixels_of",
    "require_pixels",
    "require_unit_range",
]

OneImage = Tensor | np.ndarray[Any, Any] | Image.Image | str | os.PathLike[str]
"""uint8 or float in [0, 1]: a tensor (C, H, W), an array (C, H, W) or (H, W, C), a Pillow image
or the path of a file."""

Given = ImageSet | Tensor | np.ndarray[Any, Any] | Dataset[Any] | str | Path | Sequence[OneImage]
"""An image set: a tensor (N, C, H, W), an array (N, C, H, W) or (N, H, W, C), a torch data set or
loader of images or pairs with labels, a list of images, a source such as `folder:PATH`, or the
path of a folder."""


def image_set(
    images: Given,
    *,
    name: str,
    labels: Sequence[int] | Tensor | np.ndarray[Any, Any] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    scale: Scale = "auto",
    split: str = "test",
) -> ImageSet:
    """Makes a set of whatever holds images; they are kept as 8 bits, as image files are.

    Args:
        images: The images.
        name: What the set is called in tables.
        labels: Class numbers (N,), where `images` does not hold them itself.
        image_size: Side in pixels; None takes that of tensors and arrays.
        channels: 3 or 1; None takes that of tensors and arrays.
        scale: What is white in files of more than 8 bits, see `DataConfig.scale`.
        split: Part of a source that has parts.

    Returns:
        The set.

    Raises:
        UserError: There are no images, their size or number of channels is another one or is
            unknown, or labels and images are not equally many.
    """
    if isinstance(images, Path):
        images = f"folder:{images}"
    if isinstance(images, str):
        found = _from_source(images, image_size, channels, scale, split)
    elif isinstance(images, ImageSet):
        found = images
    else:
        pixels, own = _gathered(images, name, image_size, channels, scale)
        names = [f"{name}[{index}]" for index in range(len(pixels))]
        classes = [] if own is None else [str(index) for index in range(int(own.max()) + 1)]
        found = ImageSet.of(name, HeldPixels(pixels, names), own, classes)
    if labels is not None:
        found = _labelled(found, torch.as_tensor(labels), name)
    if not len(found):
        raise UserError(f"{name}: there are no images")
    shape = tuple(found.fetch([0]).shape[1:])
    wanted = (channels or shape[0], image_size or shape[1], image_size or shape[1])
    if shape != wanted:
        raise UserError(f"{name}: {misshapen(shape, wanted[0], wanted[1])}")
    return found.renamed(name)


def _from_source(
    source: str, size: int | None, channels: int | None, scale: Scale, split: Any
) -> ImageSet:
    if size is None or channels is None:
        raise UserError(f"{source}: give image_size and channels, to which its images are made")
    try:
        data = DataConfig(image_size=size, channels=channels, scale=scale)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
    return load_source(source, split=split, data=data, loader=LoaderConfig())


def _labelled(images: ImageSet, labels: Tensor, name: str) -> ImageSet:
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise UserError(
            f"{name}: labels of type {labels.dtype} and shape {tuple(labels.shape)}; they must be "
            f"whole numbers, one for each of {len(images)} images"
        )
    count = int(labels.max()) + 1 if len(labels) else 0
    pixels = HeldPixels(images.fetch(range(len(images))), images.names())
    classes = [str(index) for index in range(count)]
    return ImageSet.of(name, pixels, labels.to(torch.int64).cpu(), classes)


def _gathered(
    images: Any, name: str, size: int | None, channels: int | None, scale: Scale
) -> tuple[Tensor, Tensor | None]:
    """Pixels (N, C, S, S) as uint8, and labels (N,) where the items are pairs."""
    parts, labels = [], []
    for item, label in _items(images, name):
        if size is None or channels is None:
            size, channels = _shape_of(item, name, size, channels)
        try:
            found = pixels_of(item, channels, size, scale)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        parts.append(_as_bytes(found))
        known = torch.full((len(found),), -1) if label is None else _as_label(label)
        if known.numel() != len(found) or known.is_floating_point():
            raise UserError(f"{name}: a label is not one whole number: {str(label)[:60]}")
        labels.append(known.reshape(-1).to(torch.int64))
    if not parts:
        raise UserError(f"{name}: there are no images")
    flat = torch.cat(labels)
    return torch.cat(parts), flat if bool((flat >= 0).any()) else None


def _as_label(label: Any) -> Tensor:
    try:
        return torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        return torch.zeros(0)


def _items(images: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """The images, one or a batch at a time, with their labels or None."""
    if isinstance(images, Tensor | np.ndarray):
        yield images, None
        return
    counted = hasattr(images, "__getitem__") and hasattr(images, "__len__")  # a map, a list
    if not counted and not isinstance(images, Iterable):
        raise UserError(
            f"{name}: of type {type(images).__name__}; give a tensor, an array, a torch data set, "
            "a list of images, or a source such as folder:PATH"
        )
    several = (images[index] for index in range(len(images))) if counted else iter(images)
    for item in several:
        paired = isinstance(item, tuple | list) and len(item) >= 2
        yield (item[0], item[1]) if paired else (item[0] if isinstance(item, tuple) else item, None)


def _shape_of(item: Any, name: str, size: int | None, channels: int | None) -> tuple[int, int]:
    if not isinstance(item, Tensor | np.ndarray) or item.ndim not in (3, 4):
        raise UserError(f"{name}: give image_size and channels, to which its images are made")
    shape = tuple(item.shape[-3:])
    first = shape[0] if isinstance(item, Tensor) or shape[2] not in (1, 3) else shape[2]
    return size or int(shape[1]), channels or int(first)


def _as_bytes(images: Tensor) -> Tensor:
    images = images.detach().cpu()
    return images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)


def pixels_of(item: Any, channels: int, size: int, scale: Scale = "auto") -> Tensor:
    """Pixels of one image, or of a tensor or array of several; files are decoded as in training.

    Args:
        item: See `OneImage`.
        channels: 3 or 1.
        size: Side in pixels.
        scale: What is white in files of more than 8 bits, see `DataConfig.scale`.

    Returns:
        (N, channels, size, size), uint8 or float in [0, 1].

    Raises:
        UserError: Another type, shape or range, or an unreadable file.
    """
    if isinstance(item, Image.Image):
        return decode(item, channels, size, scale).unsqueeze(0)
    if isinstance(item, str | os.PathLike):
        try:
            return read_image(os.fspath(item), channels, size, scale).unsqueeze(0)
        except UnreadableImage as error:  # without the option of configs that leaves it out
            raise UnreadableImage(f"{printable(os.fspath(item))}: {error.reason}") from None
    if isinstance(item, Tensor | np.ndarray):
        return require_pixels(item, channels, size)
    raise UserError(
        f"an image of type {type(item).__name__}: give tensors, arrays, Pillow images or paths"
    )


def require_pixels(images: Tensor | np.ndarray[Any, Any], channels: int, size: int) -> Tensor:
    """Images as a tensor (N, C, H, W) of the wanted shape, with values that images have.

    Raises:
        UserError: Another type, shape or range.
    """
    if isinstance(images, np.ndarray):
        images = _from_array(images, channels, size)
    if images.shape == (channels, size, size):
        images = images.unsqueeze(0)
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
        raise UserError(misshapen(images.shape, channels, size))
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise UserError(f"images of type {images.dtype}: give uint8, or float in [0, 1]")
    require_unit_range(images)
    return images


def require_unit_range(images: Tensor) -> None:
    """Refuses floats outside [0, 1], such as those from 0 to 255; looks at nothing else.

    Raises:
        UserError: There are some, or one is not a number.
    """
    if isinstance(images, Tensor) and images.is_floating_point() and images.numel():
        low, high = torch.stack(images.detach().aminmax()).tolist()
        if not (low >= 0.0 and high <= 1.0):
            raise UserError(
                f"image values from {low:.3g} to {high:.3g}: floats must lie in [0, 1]; divide "
                "those from 0 to 255 by 255, or give uint8 to detector.score"
            )


def _from_array(array: np.ndarray[Any, Any], channels: int, size: int) -> Tensor:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UserError(f"images of type {array.dtype}: give uint8, or float in [0, 1]")
    # torch takes neither another machine's byte order nor long doubles.
    array = array.astype(f"{array.dtype.kind}{min(array.dtype.itemsize, 8)}", copy=False)
    if array.shape[-3:] == (size, size, channels) != (channels, size, size):
        array = np.moveaxis(array, -1, -3)
    return torch.from_numpy(np.ascontiguousarray(array))


def misshapen(shape: Sequence[int], channels: int, size: int) -> str:
    """What is wrong with a shape, and the remedy."""
    return (
        f"images of shape {tuple(shape)}: wanted is (N, {channels}, {size}, {size}); "
        "Pillow images and paths are resized as in training"
    )

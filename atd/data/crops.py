"""Crops of larger photographs: a few of them make many outliers, of objects, parts and matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atd.data.images import ImageSet
from atd.data.sampler import generator_for

__all__ = ["SHARPNESS", "crops"]

SHARPNESS = 5
"""Side of the images that are cropped, in sides of a crop."""
_EACH = 12
_SMALLEST = 0.2
"""Least side of what is cropped, as a share of the whole side."""


def crops(images: ImageSet, side: int) -> ImageSet:
    """Crops images at random places and scales, always in the same way.

    Args:
        images: A set of larger images.
        side: The side of a crop in pixels.

    Returns:
        Twelve crops of every image, from a fifth of its side to all of it, without labels, named
        `<name>-crops`.
    """
    return ImageSet.of(f"{images.name}-crops", _CroppedPixels(images, side))


@dataclass(frozen=True, eq=False)
class _CroppedPixels:
    images: ImageSet
    side: int

    def __len__(self) -> int:
        return _EACH * len(self.images)

    def fetch(self, rows: Sequence[int]) -> Tensor:
        origins = sorted({row // _EACH for row in rows})
        whole = dict(zip(origins, self.images.fetch(origins), strict=True))
        return torch.stack([self._crop(whole[row // _EACH], row) for row in rows])

    def _crop(self, image: Tensor, row: int) -> Tensor:
        draw = generator_for("crops", row)
        share = _SMALLEST + (1 - _SMALLEST) * float(torch.rand((), generator=draw))
        size = max(1, round(share * image.shape[-1]))
        top, left = torch.randint(image.shape[-1] - size + 1, (2,), generator=draw).tolist()
        piece = image[None, :, top : top + size, left : left + size].float()
        square = (self.side, self.side)
        shown = functional.interpolate(piece, square, mode="bicubic", antialias=True)
        return shown[0].round().clamp(0, 255).to(torch.uint8)

    def name_of(self, row: int) -> str:
        return f"crop {row % _EACH + 1} of {self.images.name_of(row // _EACH)}"

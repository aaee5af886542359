"""The side to which images are made where `data.image_size` is `auto`."""

from __future__ import annotations

import dataclasses
import statistics

from atd.config import DataConfig
from atd.data.decoding import shorter_side
from atd.data.images import ImageSet
from atd.data.reading import FilePixels
from atd.data.sources import open_source

__all__ = ["fitting_side", "sized"]

_USUAL = 32
"""Four times the pixels take four times as long, and were no better at equal steps (64 px with a
strided stem against 32 px without)."""
_LEAST = 8
_LOOKED_AT = 64


def fitting_side(images: ImageSet) -> int:
    """The side for a set: 32, or the median of its images where that is smaller.

    Args:
        images: Images that are not decoded yet; of 64 files spread over the set the header is read.

    Returns:
        The side in pixels, 8 to 32.
    """
    if not isinstance(images.pixels, FilePixels):
        return _USUAL
    rows = images.rows[:: max(1, len(images) // _LOOKED_AT)].tolist()
    sides = [side for row in rows if (side := shorter_side(images.pixels.paths[row]))]
    return max(_LEAST, min(_USUAL, round(statistics.median(sides)))) if sides else _USUAL


def sized(data: DataConfig) -> DataConfig:
    """The options with the side settled, by the ID images.

    Raises:
        UserError: As `open_source`.
    """
    if data.image_size:
        return data
    usual = dataclasses.replace(data, image_size=_USUAL)
    side = fitting_side(open_source(data.id, split="train", data=usual))
    return dataclasses.replace(data, image_size=side)

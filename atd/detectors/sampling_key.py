"""The activations of all layers as one volume, of which a key says the few that are read.

Every layer's values become maps (channels, height, width), all maps are brought to one
resolution by repeating values, and are stacked. No such volume is ever built: a point of it is a
value of some layer, which is read there. So a gradient reaches the image through it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from atd.backbones.activations import is_leaf, record, require_layers

__all__ = ["layer_maps", "places_of", "read", "stacked"]


def layer_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """What all layers without layers inside give out, in the order in which they are computed.

    Args:
        network: Any module that takes the images.
        images: (N, ...).

    Returns:
        Maps (N, channels, height, width): vectors (N, F) are F maps of one value, tokens
        (N, T, F) are F maps of T rows. What has no row for each image, or is no float, is
        passed over.

    Raises:
        UserError: There is none.
    """
    kept = require_layers(record(network, images, is_leaf), "layers that give out tensors")
    count = images.shape[0]
    return [
        _maps(value)
        for _, value in kept
        if value.ndim > 1 and value.shape[0] == count and value.is_floating_point()
    ]


def _maps(value: Tensor) -> Tensor:
    match value.ndim:
        case 2:
            return value[:, :, None, None]
        case 3:
            return value.transpose(1, 2).unsqueeze(3)
        case 4:
            return value
        case _:
            return value.flatten(3)


def stacked(maps: Sequence[Tensor]) -> Tensor:
    """All values of all maps of an image in one row (N, V)."""
    return torch.cat([value.flatten(1) for value in maps], dim=1)


def read(maps: Sequence[Tensor], places: Tensor) -> Tensor:
    """`stacked(maps)[:, places]` without a row of all values, where nothing is being traced.

    Args:
        maps: (N, channels, height, width) each.
        places: (K,) int64, ascending.
    """
    if torch.compiler.is_compiling():
        return stacked(maps)[:, places]
    sizes = [math.prod(value.shape[1:]) for value in maps]
    ends = torch.tensor(sizes, device=places.device).cumsum(0)
    before = torch.searchsorted(places, ends)
    counts = before.diff(prepend=before.new_zeros(1)).tolist()
    starts = (ends - torch.tensor(sizes, device=places.device)).tolist()
    return torch.cat(
        [
            value.flatten(1)[:, here - start]
            for value, here, start in zip(maps, places.split(counts), starts, strict=True)
            if len(here)
        ],
        dim=1,
    )


def places_of(key: Tensor, shapes: Sequence[tuple[int, int, int]], size: int) -> Tensor:
    """Where the points of a key lie in the rows of `stacked`.

    Args:
        key: Points (K, 3): channel in the volume, row, column.
        shapes: Channels, height and width of each layer's maps.
        size: Height and width of the volume. A point reads what nearest-neighbour resizing puts
            there.

    Returns:
        Places (K,) int64; several points may read the same value of a small map.
    """
    first = np.cumsum([0, *(channels for channels, _, _ in shapes)])
    start = np.cumsum([0, *(channels * high * wide for channels, high, wide in shapes)])
    channel, row, column = key.numpy().T
    layer = np.searchsorted(first, channel, side="right") - 1
    high, wide = np.array(shapes)[layer, 1:].T
    inside = (channel - first[layer]) * high + row * high // size
    return torch.from_numpy(start[layer] + inside * wide + column * wide // size)

"""The user's own images, by which a network is rounded to int8 and judged afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from atd.data.altered import altered
from atd.data.decoding import UnreadableImage, read_image
from atd.data.given import given_images, require_given
from atd.data.images import HeldPixels, ImageSet
from atd.data.listing import LeftOut
from atd.data.reading import notice
from atd.data.sampler import evenly_spaced
from atd.detectors.config import DetectorConfig
from atd.errors import UserError, printable

__all__ = ["LEAST", "OwnImages", "read_own_images"]

LEAST = 32
_MOST = 512
_ALTERED = "the ID images altered (tiles, blends, enlarged patches, colours, phases)"


@dataclass(frozen=True, eq=False)
class OwnImages:
    """Images to round a network by, and others to judge it by; uint8 (N, C, H, W).

    Attributes:
        calibration: ID images that the ranges of the activations are taken from.
        inside: Other ID images.
        outside: OOD images.
        inside_name: Where the ID images come from.
        outside_name: Where the OOD images come from.
    """

    calibration: Tensor
    inside: Tensor
    outside: Tensor
    inside_name: str
    outside_name: str


def read_own_images(
    id_names: Sequence[str | Path], ood_names: Sequence[str | Path], config: DetectorConfig
) -> OwnImages:
    """Reads the user's images, at most 512 of each side, spread over what there is.

    Args:
        id_names: Files and folders of ID images; every other image calibrates.
        ood_names: Those of OOD images; none alters the ID images.
        config: The detector's, for the size of an image.

    Raises:
        UserError: There are too few images that can be read.
    """
    inside = _read(id_names, config, "--calibration")
    used, kept = inside[::2], inside[1::2]
    if ood_names:
        outside, name = _read(ood_names, config, "--ood"), _joined(ood_names)
    else:
        held = HeldPixels(kept, [str(row) for row in range(len(kept))])
        made = altered(ImageSet.of("own", held))
        outside, name = made.fetch(range(len(made))), _ALTERED
    return OwnImages(used, kept, outside, _joined(id_names), name)


def _read(names: Sequence[str | Path], config: DetectorConfig, option: str) -> Tensor:
    given = [os.fspath(name) for name in names]
    require_given(given)
    left_out = LeftOut()
    paths = list(given_images(given, left_out))
    rows = evenly_spaced(len(paths), _MOST).tolist()
    found = []
    for path in (paths[row] for row in rows):
        try:
            found.append(read_image(path, config.channels, config.image_size, config.scale))
        except UnreadableImage:
            left_out.add("unreadable image(s)", path)
    if left_out:
        notice(f"{option}: {left_out.total} left out: {left_out}")
    if len(found) < LEAST:
        raise UserError(
            f"{option} {_joined(names)}: {len(found)} image(s); name {LEAST} or more, better 500"
        )
    return torch.stack(found)


def _joined(names: Sequence[str | Path]) -> str:
    return printable(" ".join(map(str, names)), 200)

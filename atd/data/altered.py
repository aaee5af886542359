"""Outliers made of ID images: what they show is broken, most of what they are made of is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atd.data.images import ImageSet
from atd.data.sampler import generator_for

__all__ = ["ALTERATIONS", "altered"]

_MOST = 2500
"""Images of each kind: outliers of other kinds must not drown in them."""

Alteration = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def altered(images: ImageSet) -> ImageSet:
    """Alters images in each of the `ALTERATIONS`, always in the same way.

    Args:
        images: ID images.

    Returns:
        As many images of every kind, at most 2,500 of each, without labels, named
        `<name>-altered`.
    """
    return ImageSet.of(f"{images.name}-altered", _AlteredPixels(images))


@dataclass(frozen=True, eq=False)
class _AlteredPixels:
    images: ImageSet

    @property
    def _each(self) -> int:
        return min(_MOST, len(self.images))

    def __len__(self) -> int:
        return self._each * len(ALTERATIONS)

    def _origin(self, row: int) -> tuple[str, int]:
        kind, place = divmod(row, self._each)
        # Spread over the whole set, each kind beginning elsewhere.
        size, step = len(self.images), len(self.images) // self._each
        return list(ALTERATIONS)[kind], (place * step + kind) % size

    def fetch(self, rows: Sequence[int]) -> Tensor:
        origins = [self._origin(row) for row in rows]
        draws = [generator_for("altered", row) for row in rows]
        others = [int(torch.randint(len(self.images), (), generator=g)) for g in draws]
        ones = self.images.fetch([index for _, index in origins])
        twos = self.images.fetch(others)
        made = [
            _altered(kind, one, two, draw)
            for (kind, _), one, two, draw in zip(origins, ones, twos, draws, strict=True)
        ]
        return torch.stack(made)

    def name_of(self, row: int) -> str:
        kind, index = self._origin(row)
        return f"{kind} of {self.images.name_of(index)}"


def _altered(kind: str, one: Tensor, two: Tensor, draw: torch.Generator) -> Tensor:
    """An altered image, uint8; one that came out as it was, as a plain one does, is inverted."""
    made = ALTERATIONS[kind](one.float(), two.float(), draw)
    made = made.round().clamp(0, 255).to(torch.uint8)
    return 255 - made if torch.equal(made, one) or torch.equal(made, two) else made


def _jigsaw(one: Tensor, _: Tensor, draw: torch.Generator) -> Tensor:
    """Permutes 2 x 2 to 8 x 8 tiles."""
    cells = (2, 4, 8)[int(torch.randint(3, (), generator=draw))]
    channels, side = one.shape[:2]
    tile = max(1, side // cells)
    cells = side // tile
    used = one[:, : cells * tile, : cells * tile].reshape(channels, cells, tile, cells, tile)
    tiles = used.permute(1, 3, 0, 2, 4).flatten(0, 1)
    order = torch.randperm(len(tiles), generator=draw)
    order = order.roll(1) if bool((order == torch.arange(len(tiles))).all()) else order
    mixed = tiles[order].unflatten(0, (cells, cells)).permute(2, 0, 3, 1, 4)
    result = one.clone()
    result[:, : cells * tile, : cells * tile] = mixed.reshape(channels, cells * tile, -1)
    return result


def _blend(one: Tensor, two: Tensor, draw: torch.Generator) -> Tensor:
    """Lays two images over each other, the second one mirrored top to bottom."""
    share = 0.4 + 0.2 * float(torch.rand((), generator=draw))
    return share * one + (1 - share) * two.flip(1)


def _patch(one: Tensor, _: Tensor, draw: torch.Generator) -> Tensor:
    """Enlarges an eighth to a third of the side to the whole: matter without an object."""
    side = one.shape[-1]
    size = max(2, int(side * (0.125 + 0.2 * float(torch.rand((), generator=draw)))))
    top, left = (int(torch.randint(side - size + 1, (), generator=draw)) for _ in range(2))
    piece = one[None, :, top : top + size, left : left + size]
    return functional.interpolate(piece, (side, side), mode="bicubic", align_corners=False)[0]


def _colour(one: Tensor, _: Tensor, draw: torch.Generator) -> Tensor:
    """Inverts, posterises, or mixes the channels by a random matrix and stretches the result."""
    way = int(torch.randint(3, (), generator=draw))
    if way == 0:
        return 255 - one
    if way == 1:
        return (one / 128).floor() * 255
    mixing = torch.randn(one.shape[0], one.shape[0], generator=draw)
    mixed = torch.tensordot(mixing, one - one.mean(), 1)
    low, high = mixed.min(), mixed.max()
    return 255 * (mixed - low) / (high - low + 1e-6)


def _phases(one: Tensor, two: Tensor, draw: torch.Generator) -> Tensor:
    """Keeps the amplitude of every frequency and scrambles its phase."""
    spectrum = torch.fft.rfft2(one)
    noise = torch.fft.rfft2(torch.rand(one.shape[-2:], generator=draw))
    turned = spectrum.abs() * noise / noise.abs().clamp_min(1e-6)
    turned[:, 0, 0] = spectrum[:, 0, 0]
    return torch.fft.irfft2(turned, s=one.shape[-2:])


def _strips(one: Tensor, two: Tensor, draw: torch.Generator) -> Tensor:
    """Shows two images in alternating strips."""
    side = one.shape[-1]
    width = max(1, side // (2, 4, 8)[int(torch.randint(3, (), generator=draw))])
    first = (torch.arange(side) // width) % 2 == 0
    if int(torch.randint(2, (), generator=draw)):
        return torch.where(first[:, None], one, two)
    return torch.where(first, one, two)


ALTERATIONS: dict[str, Alteration] = {
    "jigsaw": _jigsaw,
    "blend": _blend,
    "patch": _patch,
    "colours": _colour,
    "phases": _phases,
    "strips": _strips,
}
"""What is done to an image (C, H, W) in [0, 255], given another one and a source of draws."""

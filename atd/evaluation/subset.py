"""A few images of each side, for the checks that would cost too much on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atd.data.sampler import evenly_spaced
from atd.evaluation.jobs import Images

__all__ = ["Sides"]


@dataclass(frozen=True)
class _Few:
    """A few images in memory."""

    name: str
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Images (B, C, H, W) as uint8 on the CPU."""
        return self.pixels[torch.as_tensor(indices)]


@dataclass(frozen=True)
class Sides:
    """Images of both sides, each in one batch, since small batches cost nearly as much.

    Attributes:
        inside: ID images.
        outside: OOD images, as many from every set.
        inside_at: Positions of the ID images in their set.
        outside_at: Positions of the OOD images in each set, in the order of the sets.
    """

    inside: Images
    outside: Images
    inside_at: Tensor
    outside_at: tuple[Tensor, ...]

    @classmethod
    def of(cls, inside: Images, outside: Sequence[Images], count: int) -> Sides:
        """About `count` images of each side; every OOD set gives as many."""
        each = -(-count // len(outside))
        inside_at, *outside_at = (
            evenly_spaced(len(images), least)
            for images, least in [(inside, count), *((images, each) for images in outside)]
        )
        pooled = [images.fetch(at) for images, at in zip(outside, outside_at, strict=True)]
        return cls(
            _Few("check ID", inside.fetch(inside_at)),
            _Few("check OOD", torch.cat(pooled)),
            inside_at,
            tuple(outside_at),
        )

    def pixels(self, count: int) -> tuple[Tensor, Tensor]:
        """At most `count` images of each side as uint8 (N, C, H, W): ID, OOD."""
        inside, outside = (
            side.fetch(evenly_spaced(len(side), count)) for side in (self.inside, self.outside)
        )
        return inside, outside

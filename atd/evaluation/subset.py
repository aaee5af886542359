"""A few images of each side, for the checks that would cost too much on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atd.evaluation.scoring import Images

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
    """

    inside: Images
    outside: Images

    @classmethod
    def of(cls, inside: Images, outside: Sequence[Images], count: int) -> Sides:
        """About `count` images of each side; every OOD set gives as many."""
        each = -(-count // len(outside))
        pooled = torch.cat([_spaced(images, each) for images in outside])
        return cls(_Few("check ID", _spaced(inside, count)), _Few("check OOD", pooled))

    def pixels(self, count: int) -> tuple[Tensor, Tensor]:
        """At most `count` images of each side as uint8 (N, C, H, W): ID, OOD."""
        return _spaced(self.inside, count), _spaced(self.outside, count)


def _spaced(images: Images, count: int) -> Tensor:
    """At most `count` evenly spaced images, so that sets sorted by class are represented."""
    positions = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    return images.fetch(positions)

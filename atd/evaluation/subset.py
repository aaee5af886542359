"""A few images of each side, for the checks that would cost too much on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atd.evaluation.scoring import Images

__all__ = ["Sides", "few"]


@dataclass(frozen=True)
class _Subset:
    """Some images of a set, in its order."""

    name: str
    images: Images
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Images (B, C, H, W) as uint8 on the CPU."""
        return self.images.fetch(self.positions[torch.as_tensor(indices)])


def few(images: Images, count: int) -> Images:
    """At most `count` evenly spaced images, so that sets sorted by class are represented."""
    positions = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    return _Subset(f"check {images.name}", images, positions)


@dataclass(frozen=True)
class Sides:
    """Images of both sides.

    Attributes:
        inside: ID images.
        outside: OOD images, each set's share of them.
    """

    inside: Images
    outside: tuple[Images, ...]

    @classmethod
    def of(cls, inside: Images, outside: Sequence[Images], count: int) -> Sides:
        """About `count` images of each side; every OOD set gives as many."""
        each = -(-count // len(outside))
        return cls(few(inside, count), tuple(few(images, each) for images in outside))

    def pixels(self, count: int) -> tuple[Tensor, Tensor]:
        """About `count` images of each side as uint8 (N, C, H, W): ID, OOD."""
        each = -(-count // len(self.outside))
        outside = [_first(images, each) for images in self.outside]
        return _first(self.inside, count), torch.cat(outside)


def _first(images: Images, count: int) -> Tensor:
    return images.fetch(torch.linspace(0, len(images) - 1, min(count, len(images))).round().long())

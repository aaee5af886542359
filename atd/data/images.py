"""Sets of images: what every other part of the package sees of the data."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from atd.data.listing import LeftOut
from atd.data.sampler import generator_for

__all__ = [
    "FIT_IMAGES",
    "Fetched",
    "HeldPixels",
    "ImageSet",
    "Pixels",
    "content_of",
    "join",
    "pick",
]

_CHUNK = 256
"""Images that are read at once."""
_STATISTICS_IMAGES = 4096
FIT_IMAGES = 4096
"""Images from which the statistics of features are estimated."""


class Pixels(Protocol):
    """Where the pixels of a set come from: memory, files, or other sets."""

    def __len__(self) -> int:
        """Number of images."""

    def fetch(self, rows: Sequence[int]) -> Tensor:
        """Returns uint8 (len(rows), C, H, W)."""

    def name_of(self, row: int) -> str:
        """Returns a name that a person can find the image by."""


@dataclass(frozen=True, eq=False)
class HeldPixels:
    """Decoded images in memory.

    Attributes:
        tensor: uint8 (N, C, H, W).
        names: One name for each image.
    """

    tensor: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.tensor)

    def fetch(self, rows: Sequence[int]) -> Tensor:
        """Returns uint8 (len(rows), C, H, W)."""
        return self.tensor[torch.as_tensor(rows, dtype=torch.int64)]

    def name_of(self, row: int) -> str:
        """Returns the image's name."""
        return self.names[row]


@dataclass(frozen=True, eq=False)
class _JoinedPixels:
    parts: tuple[ImageSet, ...]
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def _locate(self, row: int) -> tuple[ImageSet, int]:
        part = bisect.bisect_right(self.starts, row) - 1
        return self.parts[part], row - self.starts[part]

    def fetch(self, rows: Sequence[int]) -> Tensor:
        located = [self._locate(row) for row in rows]
        runs = itertools.groupby(located, key=lambda item: id(item[0]))
        fetched = []
        for _, run in runs:
            items = list(run)
            fetched.append(items[0][0].fetch([index for _, index in items]))
        return torch.cat(fetched)

    def name_of(self, row: int) -> str:
        part, index = self._locate(row)
        return part.name_of(index)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, with labels where the source has them.

    Attributes:
        name: Name in tables, safe as a file name, e.g. `cifar10`.
        labels: (N,) int64; -1 everywhere when the source has no labels.
        classes: Class names; empty when unlabelled.
        pixels: Where the pixels come from.
        rows: (N,) int64, the images of `pixels` that belong to this set.
        left_out: What the source holds beside these images that is not used, and why.
    """

    name: str
    labels: Tensor
    classes: tuple[str, ...]
    pixels: Pixels
    rows: Tensor
    left_out: LeftOut = field(default_factory=LeftOut)

    @classmethod
    def of(
        cls,
        name: str,
        pixels: Pixels,
        labels: Tensor | None = None,
        classes: Sequence[str] = (),
        left_out: LeftOut | None = None,
    ) -> ImageSet:
        """Makes a set of all images of `pixels`."""
        size = len(pixels)
        labels = torch.full((size,), -1) if labels is None else labels.to(torch.int64)
        rows = torch.arange(size)
        left_out = LeftOut() if left_out is None else left_out
        return cls(name, labels, tuple(classes), pixels, rows, left_out)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_memory(self) -> bool:
        """Whether the decoded images are held in memory."""
        return isinstance(self.pixels, HeldPixels)

    @functools.cached_property
    def content(self) -> bytes:
        """SHA-256 of all pixels, which are read once for it."""
        return content_of(self)

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Returns images.

        Args:
            indices: (B,) positions in this set.

        Returns:
            uint8 (B, C, H, W) on the CPU.
        """
        rows = self.rows[torch.as_tensor(indices, dtype=torch.int64)]
        return self.pixels.fetch(rows.tolist())

    def name_of(self, index: int) -> str:
        """Names an image, for messages: its path, or the set's name and a number."""
        return self.pixels.name_of(int(self.rows[index]))

    def names(self) -> list[str]:
        """Names all images, see `name_of`."""
        return [self.pixels.name_of(row) for row in self.rows.tolist()]

    def subset(self, indices: Tensor) -> ImageSet:
        """Returns the images at the given positions; nothing is copied or decoded."""
        return dataclasses.replace(self, labels=self.labels[indices], rows=self.rows[indices])

    def take(self, limit: int, seed: int) -> ImageSet:
        """Returns a seeded subset in the original order, classes in proportion; 0 = all."""
        if limit == 0 or limit >= len(self):
            return self
        return self.subset(pick(self.labels, limit, seed, self.name)[0])

    def with_left_out(self, more: LeftOut) -> ImageSet:
        """Returns the same set with a note of what else has been left out."""
        return dataclasses.replace(self, left_out=self.left_out.merged(more))

    def renamed(self, name: str) -> ImageSet:
        """Returns the same images under another name."""
        return dataclasses.replace(self, name=name)

    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Measures mean and standard deviation of each channel, of up to 4096 images.

        Returns:
            Two (C,) float32 tensors on the [0, 1] scale; the deviation is at least 1/255.
        """
        some = self.take(_STATISTICS_IMAGES, seed=0)
        total = squares = torch.zeros(())
        pixels = 0
        for start in range(0, len(some), 256):
            chunk = range(start, min(start + 256, len(some)))
            values = some.fetch(chunk).to(torch.float64) / 255
            total = total + values.sum((0, 2, 3))
            squares = squares + values.square().sum((0, 2, 3))
            pixels += values[:, 0].numel()
        mean = total / pixels
        deviation = (squares / pixels - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
        return mean.float(), deviation.float()


class Fetched(Protocol):
    """Anything that gives images by number."""

    def __len__(self) -> int:
        """Number of images."""

    def fetch(self, indices: Sequence[int], /) -> Tensor:
        """Returns uint8 (len(indices), C, H, W)."""


def content_of(images: Fetched) -> bytes:
    """SHA-256 of all pixels."""
    digest = hashlib.sha256()
    for start in range(0, len(images), _CHUNK):
        pixels = images.fetch(range(start, min(start + _CHUNK, len(images))))
        digest.update(f"{tuple(pixels.shape)}".encode())
        digest.update(pixels.contiguous().numpy().tobytes())
    return digest.digest()


def pick(labels: Tensor, count: int, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """Divides a set in two, at random but always in the same way.

    Each class gives its share, and a class of two or more images keeps one as long as not more
    than half of the set is picked. The choice depends on the arguments only, never on how much
    random state was used before.

    Args:
        labels: (N,) labels; all equal for a set without labels.
        count: Number of images to pick.
        seed: Seed of the choice.
        name: Name of the set.

    Returns:
        Positions of the picked images and of the others, each in increasing order.
    """
    size = len(labels)
    order = torch.randperm(size, generator=generator_for("split", seed, name, size))
    by_class = order[torch.argsort(labels[order], stable=True)]
    _, sizes = torch.unique_consecutive(labels[by_class], return_counts=True)
    starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    quantile = (torch.arange(size) - starts + 0.5) / torch.repeat_interleave(sizes, sizes)
    # Ties between classes fall to whichever class the permutation put first.
    place = torch.empty(size, dtype=torch.int64)
    place[order] = torch.arange(size)
    tie = place[by_class] / max(size, 1)
    ranked = by_class[torch.argsort(quantile.double() + 1e-7 * tie.double(), stable=True)]
    return ranked[:count].sort().values, ranked[count:].sort().values


def join(parts: Sequence[ImageSet], name: str) -> ImageSet:
    """Puts sets one behind the other.

    The result is labelled if all parts are; classes of the same name become one.

    Args:
        parts: One or more sets with images of one size.
        name: Name of the result.

    Returns:
        The joint set.
    """
    if len(parts) == 1:
        return parts[0].renamed(name)
    left_out = functools.reduce(LeftOut.merged, (part.left_out for part in parts))
    starts = itertools.accumulate(map(len, parts[:-1]), initial=0)
    pixels = _JoinedPixels(tuple(parts), tuple(starts))
    if not all(part.classes for part in parts):
        return ImageSet.of(name, pixels, left_out=left_out)
    classes = list(dict.fromkeys(label for part in parts for label in part.classes))
    moved = [
        torch.tensor([classes.index(label) for label in part.classes])[part.labels]
        for part in parts
    ]
    return ImageSet.of(name, pixels, torch.cat(moved), classes, left_out)

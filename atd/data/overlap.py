"""Finds images that lie in two sets, by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from atd.config import DataConfig, LoaderConfig
from atd.data.images import ImageSet
from atd.data.listing import LeftOut
from atd.data.reading import notice, settle
from atd.errors import UserError

__all__ = ["CheckedSet", "check", "drop_shared", "forbid_shared"]


@dataclass(frozen=True, eq=False)
class CheckedSet:
    """A set with the content hash of each image.

    Attributes:
        title: What the set is for, in messages, e.g. `outliers (food101)`.
        images: The images.
        positions: Where each content hash lies; of equal images, the last.
        hashes: The hash of each image, in order.
    """

    title: str
    images: ImageSet
    positions: dict[bytes, int]
    hashes: list[bytes]

    def content(self) -> str:
        """A hash of all images in their order, as hexadecimal text."""
        return hashlib.blake2b(b"".join(self.hashes), digest_size=16).hexdigest()


def check(title: str, images: ImageSet, data: DataConfig, loader: LoaderConfig) -> CheckedSet:
    """Reads a set (see `settle`) and notes the content of its images."""
    settled, hashes = settle(images, data, loader)
    _tell_repeated(settled, hashes)
    positions = {digest: index for index, digest in enumerate(hashes)}
    return CheckedSet(f"{title} ({images.name})", settled, positions, hashes)


def _tell_repeated(images: ImageSet, hashes: list[bytes]) -> None:
    """Tells of images that a set holds more than once, and of those whose labels contradict."""
    first: dict[bytes, int] = {}
    repeated: list[tuple[int, int]] = []
    contradicting: list[tuple[int, int]] = []
    for index, digest in enumerate(hashes):
        earlier = first.setdefault(digest, index)
        if earlier != index:
            different = images.labels[earlier] != images.labels[index]
            (contradicting if different else repeated).append((earlier, index))
    if repeated:
        notice(f"{images.name}: {len(repeated)} image(s) are copies, {_pair(images, repeated[0])}")
    if contradicting:
        earlier, index = contradicting[0]
        labels = " and ".join(images.classes[int(images.labels[i])] for i in (earlier, index))
        notice(
            f"{images.name}: {len(contradicting)} image(s) lie in two classes, so their labels "
            f"contradict: {_pair(images, contradicting[0])} ({labels}); keep each in one class"
        )


def _pair(images: ImageSet, pair: tuple[int, int]) -> str:
    return f"e.g. {images.name_of(pair[0])} = {images.name_of(pair[1])}"


def forbid_shared(one: CheckedSet, other: CheckedSet) -> None:
    """Stops if two sets share an image.

    Raises:
        UserError: They do; one shared image is named.
    """
    shared = one.positions.keys() & other.positions.keys()
    if shared:
        first = min(shared, key=lambda digest: one.positions[digest])
        raise UserError(
            f"{one.title} and {other.title} share {len(shared)} image(s), e.g. "
            f"{one.images.name_of(one.positions[first])} = "
            f"{other.images.name_of(other.positions[first])}; remove them from one of the two"
        )


def drop_shared(one: CheckedSet, other: CheckedSet) -> CheckedSet:
    """Leaves out the images of a set that also lie in another one, and says so.

    Args:
        one: The set to clean.
        other: The set that keeps its images.

    Returns:
        `one` without the shared images.

    Raises:
        UserError: No image would be left.
    """
    shared = [index for index, digest in enumerate(one.hashes) if digest in other.positions]
    if not shared:
        return one
    first = other.positions[one.hashes[shared[0]]]
    example = f"{one.images.name_of(shared[0])} = {other.images.name_of(first)}"
    if len(shared) == len(one.images):
        raise UserError(f"{one.title}: all images also lie in {other.title}, e.g. {example}")
    others = (
        sum(
            _class(one, index) != _class(other, other.positions[one.hashes[index]])
            for index in shared
        )
        if one.images.classes and other.images.classes
        else 0
    )
    contradiction = f", {others} of them in another class, which contradicts" if others else ""
    notice(
        f"{one.title}: {len(shared)} image(s) left out that also lie in {other.title}"
        f"{contradiction}: {example}"
    )
    left_out = LeftOut()
    left_out.add(f"images that also lie in {other.title}", example, len(shared))
    keep = torch.ones(len(one.images), dtype=torch.bool)
    keep[shared] = False
    hashes = [digest for digest in one.hashes if digest not in other.positions]
    positions = {digest: index for index, digest in enumerate(hashes)}
    images = one.images.subset(keep.nonzero().flatten()).with_left_out(left_out)
    return CheckedSet(one.title, images, positions, hashes)


def _class(checked: CheckedSet, index: int) -> str:
    return checked.images.classes[int(checked.images.labels[index])]

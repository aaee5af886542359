"""Reads whole sets: every image once, by all cores, into memory where they fit."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from atd.config import DataConfig, LoaderConfig, Scale
from atd.data.decoding import UnreadableImage, read_image
from atd.data.images import HeldPixels, ImageSet
from atd.data.listing import LeftOut
from atd.data.remarks import Remarks, collecting, remarks_of
from atd.data.spreading import spread
from atd.errors import UserError, printable

__all__ = ["FilePixels", "notice", "settle"]


def notice(text: str) -> None:
    """Prints a line for the user, once also where several processes run."""
    if not _is_secondary():
        tqdm.write(printable(text), file=sys.stderr)


def _is_secondary() -> bool:
    return os.environ.get("RANK", "0") != "0"


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Images that are decoded from files whenever they are fetched.

    Attributes:
        paths: The files.
        channels: 3 or 1.
        size: Side in pixels.
        scale: What is white in images of more than 8 bits, see `DataConfig.scale`.
    """

    paths: Sequence[str]
    channels: int
    size: int
    scale: Scale = "auto"

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, rows: Sequence[int]) -> Tensor:
        """Returns uint8 (len(rows), C, H, W); raises `UnreadableImage` for a broken file."""
        paths = [self.paths[row] for row in rows]
        # Where nobody collects, what is to be told was told when the set was settled.
        with nullcontext() if remarks_of() else collecting():
            return torch.stack([read_image(p, self.channels, self.size, self.scale) for p in paths])

    def name_of(self, row: int) -> str:
        """Returns the file's path."""
        return self.paths[row]


def settle(
    images: ImageSet, data: DataConfig, loader: LoaderConfig
) -> tuple[ImageSet, list[bytes]]:
    """Reads every image of a set once: checks it, notes its content, holds it if small enough.

    Damaged tags and grey levels that leave their range mostly empty are told in a line each.

    Args:
        images: A set whose images may not have been decoded yet.
        data: Image size, channels, and whether unreadable images may be left out.
        loader: How much memory the decoded pixels of a set may take.

    Returns:
        The set, in memory if it fits, and the content hash of each of its images.

    Raises:
        UserError: An image is unreadable and `data.skip_corrupt` is off, or none is left.
    """
    for line in images.left_out.lines(images.name):
        notice(line)
    size = len(images)
    shape = (data.channels, data.image_size, data.image_size)
    held = None
    if size and size * math.prod(shape) <= loader.memory_mb * 2**20:
        # Shared with the processes that read, and not bound to the size of /dev/shm.
        held = torch.frombuffer(mmap.mmap(-1, size * math.prod(shape)), dtype=torch.uint8)
        held = held.view(size, *shape)

    def read(indices: range) -> tuple[list[bytes], Remarks]:
        hashes = [b""] * len(indices)
        with collecting() as remarks:
            for index, pixels in _readable(images, indices, data.skip_corrupt):
                hashes[index - indices.start] = _digest(pixels)
                if held is not None:
                    held[index] = pixels
        return hashes, remarks

    hashes: list[bytes] = []
    remarks = Remarks()
    with _progress(f"reading {images.name}", size) as bar:
        for indices, (digests, more) in spread(read, size, processes=not images.in_memory):
            hashes += digests
            remarks.add(more)
            bar.update(len(indices))
    for line in remarks.lines(data.scale):
        notice(f"{images.name}: {line}")
    good = torch.tensor([bool(digest) for digest in hashes], dtype=torch.bool).nonzero().flatten()
    if len(good) < size:
        images, hashes = _without_unreadable(images, good, hashes)
        held = held[good] if held is not None else None
    if held is not None:
        pixels = HeldPixels(held, images.names())
        everything = torch.arange(len(held))
        images = dataclasses.replace(images, pixels=pixels, rows=everything)
    return images, hashes


def _readable(images: ImageSet, indices: Sequence[int], skip: bool) -> list[tuple[int, Tensor]]:
    try:
        return list(zip(indices, images.fetch(indices), strict=True))
    except UnreadableImage:
        if not skip:
            raise
    if len(indices) == 1:
        return []
    return [pair for index in indices for pair in _readable(images, [index], skip)]


def _without_unreadable(
    images: ImageSet, good: Tensor, hashes: list[bytes]
) -> tuple[ImageSet, list[bytes]]:
    first = images.name_of(hashes.index(b""))
    count = len(images) - len(good)
    if len(good) == 0:
        raise UserError(f"{images.name}: none of its {count} images is readable, e.g. {first}")
    notice(f"{images.name}: {count} unreadable image(s) left out, e.g. {first}")
    left_out = LeftOut()
    left_out.add("unreadable images", first, count)
    images = images.subset(good).with_left_out(left_out)
    return images, [digest for digest in hashes if digest]


def _digest(pixels: Tensor) -> bytes:
    return hashlib.blake2b(pixels.contiguous().numpy().data, digest_size=16).digest()


def _progress(title: str, size: int) -> tqdm[NoReturn]:
    """A progress bar that appears after a second."""
    return tqdm(
        total=size,
        desc=title,
        unit="img",
        delay=1,
        leave=False,
        mininterval=0.2 if sys.stderr.isatty() else 10,
        disable=_is_secondary(),
    )

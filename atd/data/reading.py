"""From image files to uint8 tensors: one decoding and one resize for every set."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from atd.config import DataConfig, LoaderConfig
from atd.data.images import HeldPixels, ImageSet
from atd.data.spreading import spread
from atd.errors import UserError

__all__ = ["FilePixels", "UnreadableImage", "decode", "list_images", "notice", "settle"]

_STUB_FORMATS = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow knows these but cannot decode them


class UnreadableImage(UserError):
    """A file that should be an image and cannot be decoded."""


def notice(text: str) -> None:
    """Prints a line for the user, once also where several processes run."""
    if not _is_secondary():
        tqdm.write(text, file=sys.stderr)


def _is_secondary() -> bool:
    return os.environ.get("RANK", "0") != "0"


def decode(image: Image.Image, channels: int, size: int) -> Tensor:
    """Turns any Pillow image into a square tensor.

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits,
    and every other mode is converted by Pillow. The largest centred square is then resized
    with an antialiased bicubic filter, which equals resizing the shorter side and cropping the
    centre; an image of the wanted size is left as it is.

    Args:
        image: Image of any mode and size.
        channels: 3 (RGB, grey repeated) or 1 (grey).
        size: Side of the result in pixels.

    Returns:
        uint8 (channels, size, size).
    """
    image = _convert(_upright(image), "RGB" if channels == 3 else "L")
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    array = np.frombuffer(image.tobytes(), np.uint8).reshape(size, size, channels)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation; one that cannot be read does no harm to the pixels."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # Pillow's EXIF parser raises almost anything
        return image


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        if image.mode == "F":  # float images come on the [0, 1] or on the [0, 255] scale
            values = values * 255 if values.max(initial=0) <= 1 else values
        else:  # Pillow opens 16-bit files as I;16 or, some formats, as I
            values = values / 257
        image = Image.fromarray(np.nan_to_num(values).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Images that are decoded from files whenever they are fetched.

    Attributes:
        paths: The files.
        channels: 3 or 1.
        size: Side in pixels.
    """

    paths: Sequence[str]
    channels: int
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, rows: Sequence[int]) -> Tensor:
        """Returns uint8 (len(rows), C, H, W); raises `UnreadableImage` for a broken file."""
        return torch.stack([self._read(self.paths[row]) for row in rows])

    def _read(self, path: str) -> Tensor:
        try:
            with Image.open(path) as image:
                return decode(image, self.channels, self.size)
        except Exception as error:  # Pillow's decoders raise almost anything on broken files
            reason = str(error).replace(f" '{path}'", "") or type(error).__name__
            raise UnreadableImage(
                f"{path}: not readable as an image ({reason}); "
                "replace or delete it, or set data.skip_corrupt=true"
            ) from None

    def name_of(self, row: int) -> str:
        """Returns the file's path."""
        return self.paths[row]


def list_images(folder: Path) -> list[str]:
    """Lists all image files below a folder, by extension, in a stable order.

    Hidden files and folders (also macOS's `._` companions) are left out; links are followed.

    Args:
        folder: Where to look.

    Returns:
        Paths relative to `folder` with forward slashes, sorted.
    """
    endings = {
        ending
        for ending, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _STUB_FORMATS
    }
    found = []
    visited = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in visited:  # a link back up would never end
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if name[0] != "." and name != "__MACOSX"]
        images = [n for n in files if n[0] != "." and os.path.splitext(n)[1].lower() in endings]
        prefix = Path(where).relative_to(folder).as_posix()
        found += [name if prefix == "." else f"{prefix}/{name}" for name in images]
    return sorted(found)


def settle(
    images: ImageSet, data: DataConfig, loader: LoaderConfig
) -> tuple[ImageSet, list[bytes]]:
    """Reads every image of a set once: checks it, notes its content, holds it if small enough.

    Args:
        images: A set whose images may not have been decoded yet.
        data: Image size, channels, and whether unreadable images may be left out.
        loader: How much memory the decoded pixels of a set may take.

    Returns:
        The set, in memory if it fits, and the content hash of each of its images.

    Raises:
        UserError: An image is unreadable and `data.skip_corrupt` is off, or none is left.
    """
    size = len(images)
    shape = (data.channels, data.image_size, data.image_size)
    held = None
    if size and size * math.prod(shape) <= loader.memory_mb * 2**20:
        # Shared with the processes that read, and not bound to the size of /dev/shm.
        held = torch.frombuffer(mmap.mmap(-1, size * math.prod(shape)), dtype=torch.uint8)
        held = held.view(size, *shape)

    def read(indices: range) -> list[bytes]:
        hashes = [b""] * len(indices)
        for index, pixels in _readable(images, indices, data.skip_corrupt):
            hashes[index - indices.start] = _digest(pixels)
            if held is not None:
                held[index] = pixels
        return hashes

    hashes: list[bytes] = []
    with _progress(f"reading {images.name}", size) as bar:
        for indices, digests in spread(read, size, processes=not images.in_memory):
            hashes += digests
            bar.update(len(indices))
    good = torch.tensor([bool(digest) for digest in hashes], dtype=torch.bool).nonzero().flatten()
    if len(good) < size:
        images, hashes = _without_unreadable(images, good, hashes)
        held = held[good] if held is not None else None
    if held is not None:
        pixels = HeldPixels(held, images.names())
        images = ImageSet.of(images.name, pixels, images.labels, images.classes)
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
    return images.subset(good), [digest for digest in hashes if digest]


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

"""From an image file to a uint8 tensor: one decoding and one resize for every set."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from atd.config import Scale
from atd.data.budget import LIMIT, memory, room_for
from atd.data.deep import to_8_bits
from atd.data.remarks import remarks_of
from atd.errors import UserError, printable

__all__ = ["UnreadableImage", "decode", "endings", "formats", "read_image", "shorter_side"]

_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI",
    "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""The formats that are tried, whatever a file is called. None of them starts a program, as Pillow
does for EPS, or holds an image of another size than its header says, as ICO may."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What an EXIF orientation asks for."""


class UnreadableImage(UserError):
    """A file that should be an image and cannot be decoded.

    Attributes:
        reason: The message without the file's name and the remedy.
    """

    reason = "not readable as an image"


def decode(image: Image.Image, channels: int, size: int, scale: Scale = "auto") -> Tensor:
    """Turns any Pillow image into a square tensor.

    EXIF orientation is applied, transparency is laid on white, grey levels of more than 8 bits
    are scaled to 8, and every other mode is converted by Pillow. The largest centred square is
    then resized with an antialiased bicubic filter, which equals resizing the shorter side and
    cropping the centre; an image of the wanted size is left as it is.

    Args:
        image: Image of any mode and size.
        channels: 3 (RGB, grey repeated) or 1 (grey).
        size: Side of the result in pixels.
        scale: What is white in images of more than 8 bits, see `DataConfig.scale`.

    Returns:
        uint8 (channels, size, size).
    """
    file, image = image, to_8_bits(image, scale)
    turn = _TURNS.get(_orientation(file))
    if turn is not None:
        image = image.transpose(turn)
    image = _convert(image, "RGB" if channels == 3 else "L")
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    array = np.frombuffer(image.tobytes(), np.uint8).reshape(size, size, channels)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; damage there does no harm to the pixels."""
    image.load()  # which some formats need for their EXIF, and whose faults are no harmless ones
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if isinstance(orientation, int) else 1
    except Exception as error:  # Pillow's parser raises almost anything
        if remarks := remarks_of():
            remarks.note_damage(f"EXIF: {error or type(error).__name__}")
        return 1


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def read_image(path: str, channels: int, size: int, scale: Scale = "auto") -> Tensor:
    """Decodes a file, see `decode`.

    Only a regular file of a format that is meant to be read is opened, and only an image that can
    be decoded in 512 MiB; beyond that a JPEG is decoded at a half, a quarter or an eighth.

    Args:
        path: The file.
        channels: 3 or 1.
        size: Side of the result in pixels.
        scale: As for `decode`.

    Returns:
        uint8 (channels, size, size).

    Raises:
        UnreadableImage: The file is missing, damaged, too large, or not an image.
    """
    if remarks := remarks_of():
        remarks.reading(path)
    try:
        with _regular(path) as file, Image.open(file, formats=formats()) as image:
            pixels = image.width * image.height
            needed = memory(image, pixels)
            if needed > LIMIT:
                image.draft(None, (2 * size, 2 * size))
                needed = memory(image, pixels)
            if needed > LIMIT:
                raise ValueError(
                    f"its {image.width} x {image.height} pixels take {needed / 2**20:.0f} MiB to "
                    f"decode, more than {LIMIT // 2**20}"
                )
            with room_for(needed):
                return decode(image, channels, size, scale)
    except Exception as error:  # Pillow's decoders raise almost anything on broken files
        reason = f"{UnreadableImage.reason} ({_reason(error)})"
        unreadable = UnreadableImage(
            f"{printable(path)}: {reason}; replace or delete it, or set data.skip_corrupt=true"
        )
        unreadable.reason = reason
        raise unreadable from None


def shorter_side(path: str) -> int:
    """The shorter side of an image in pixels, by its header; 0 where that cannot be read."""
    try:
        with _regular(path) as file, Image.open(file, formats=formats()) as image:
            return min(image.size)
    except Exception:  # as in `read_image`, which tells of it
        return 0


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no format that is read here, or damaged at its beginning"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(" ".join(str(error).split()) or type(error).__name__)[:200]


@contextmanager
def _regular(path: str) -> Iterator[IO[bytes]]:
    """Opens a regular file; a pipe would be waited for, and a device does what it does."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > LIMIT:
            raise ValueError(f"a file of {status.st_size / 2**20:.0f} MiB")
        if _endless_header(file.read(4096)):
            raise ValueError("its header does not end")
        file.seek(0)
        yield file


def _endless_header(beginning: bytes) -> bool:
    """Whether the comments of a netpbm file are so long that Pillow would read them for minutes."""
    if not re.match(rb"P[0-9A-Za-z]\s|P[0-9A-Za-z]#", beginning) or len(beginning) < 4096:
        return False
    words = re.sub(rb"#[^\r\n]*", b" ", beginning).split()
    return len(words) < 5


@functools.cache
def formats() -> tuple[str, ...]:
    """The names of those formats that this Pillow can decode."""
    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def endings() -> frozenset[str]:
    """The file name extensions of these formats, in lower case with their dot."""
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in known if kind in formats())

"""Images of more than 8 bits a channel: what is white in them, and how they get to 8 bits."""

from __future__ import annotations

import math
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from atd.config import Scale
from atd.data.remarks import remarks_of

__all__ = ["to_8_bits"]

_WHITE = {"8bit": 255, "10bit": 1023, "12bit": 4095, "14bit": 16383, "16bit": 65535}
_STRIP = 2**20


def to_8_bits(image: Image.Image, scale: Scale) -> Image.Image:
    """Brings an image of more than 8 bits a channel to 8; any other stays as it is.

    With `auto`, integers span 16 bits, and floats [0, 1] or, where one is larger, [0, 255].
    Colour of 16 bits, which Pillow cannot hold, is decoded by torchvision where it has to be
    scaled. A netpbm or JPEG 2000 file of 9 to 15 bits tells what is white in it, and is read by
    that, whatever the scale. What becomes white, and how bright the image is, is noted in the
    remarks.

    Args:
        image: Image of any mode, not yet loaded.
        scale: What is white.

    Returns:
        An image of 8 bits a channel.

    Raises:
        ValueError: Colour of 16 bits in a format other than PNG has to be scaled.
    """
    if _states_white(image):  # by which Pillow stretches it to 16 bits
        scale = "16bit"
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_scaled(np.asarray(image), image.mode == "F", scale))
    if not _is_deep_colour(image):
        return image
    if scale not in ("auto", "16bit"):
        return Image.fromarray(_scaled(_deep_png(image), False, scale))
    if remarks := remarks_of():
        bands = image.split()[: 1 if image.mode == "LA" else 3]
        remarks.note_depth(max(int(np.asarray(band).max()) for band in bands) / 255, False)
    return image


def _states_white(image: Image.Image) -> bool:
    """Whether a file of more than 8 bits says itself that fewer than 16 are used."""
    return any(
        (tile[0].startswith("ppm") and 255 < _maximum(tile[3]) < 65535)
        or (tile[0] == "jpeg2k" and 8 < _bits_of_jpeg2000(image.fp) < 16)  # type: ignore[attr-defined]
        for tile in getattr(image, "tile", None) or []
    )


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow drops the low byte of each channel; only the decoders tell it."""
    return any(
        ";16" in str(tile[3])
        or tile[0] == "SGI16"
        or (tile[0].startswith("ppm") and _maximum(tile[3]) > 255)
        or (tile[0] == "jpeg2k" and _bits_of_jpeg2000(image.fp) > 8)  # type: ignore[attr-defined]
        for tile in getattr(image, "tile", None) or []
    )


def _maximum(arguments: object) -> int:
    """The value of white in a netpbm file, by the arguments of its decoder."""
    return arguments[1] if isinstance(arguments, tuple) and arguments[1:] else 0


def _bits_of_jpeg2000(file: IO[bytes]) -> int:
    """The most bits of a channel, by the marker SIZ of the codestream."""
    position = file.tell()
    file.seek(0)
    _, _, header = file.read(2**22).partition(b"\xff\x4f\xff\x51")
    file.seek(position)  # Pillow goes on where it was
    depths = header[38 : 38 + 3 * int.from_bytes(header[36:38]) : 3]
    return max(((depth & 127) + 1 for depth in depths), default=0)


def _deep_png(image: Image.Image) -> NDArray[np.uint16]:
    """The pixels (H, W, C) of a 16-bit PNG with colour or transparency."""
    file = getattr(image, "fp", None)
    if image.format != "PNG" or file is None:
        raise ValueError(
            f"colour of 16 bits in a {image.format} cannot be scaled; convert it to PNG, or set "
            "data.scale=auto"
        )
    from torchvision.io import ImageReadMode, decode_png

    position = file.tell()
    file.seek(0)
    content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    file.seek(position)  # Pillow goes on where it was
    pixels: NDArray[np.uint16] = decode_png(content, ImageReadMode.UNCHANGED).numpy()
    return pixels.transpose(1, 2, 0)


def _scaled(values: NDArray[Any], is_float: bool, scale: Scale) -> NDArray[np.uint8]:
    """Grey levels on the scale of 8 bits, worked off in strips that take little memory."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("NaN or infinity among its values")
    white = float(_WHITE.get(scale, 65535))
    if is_float and scale == "auto":
        white = 1.0 if high <= 1 else 255.0
        if (remarks := remarks_of()) and high > 1 and (values <= 1).mean() > 0.5:
            remarks.note_dark_float()
    clipped = low < 0 or high > white
    if (remarks := remarks_of()) and (clipped or not is_float or scale != "auto"):
        remarks.note_depth(min(high / white, 1.0), clipped)
    result = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // max(1, values[0].size))
    for top in range(0, len(values), rows):
        strip = values[top : top + rows].astype(np.float64) * (255 / white)
        result[top : top + rows] = strip.round().clip(0, 255)
    return result

"""Colour of 16 bits a channel in formats of which Pillow keeps 8, as (H, W, C) of uint16."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

__all__ = ["WRITERS"]


def ppm(pixels, white=65535):
    height, width, _ = pixels.shape
    return b"P6 %d %d %d\n" % (width, height, white) + pixels.astype(">u2").tobytes()


def plain_ppm(pixels):
    height, width, _ = pixels.shape
    return b"P3 %d %d 65535\n" % (width, height) + " ".join(map(str, pixels.flat)).encode()


def sgi(pixels):
    height, width, channels = pixels.shape
    head = struct.pack(">hBBHHHH", 474, 0, 2, 3 if channels > 1 else 2, width, height, channels)
    return head.ljust(512, b"\0") + pixels[::-1].transpose(2, 0, 1).astype(">u2").tobytes()


def jpeg2000(pixels, *, no_jp2=False):
    """Pillow's file of 8 bits, whose codestream claims to have 16."""
    stream = io.BytesIO()
    image = Image.fromarray((pixels >> 8).astype(np.uint8))
    image.save(stream, "JPEG2000", no_jp2=no_jp2)
    content = bytearray(stream.getvalue())
    start = content.index(b"\xff\x4f\xff\x51") + 42
    content[start : start + 9 : 3] = b"\x0f" * 3
    return bytes(content)


WRITERS = {
    "PPM": ppm,
    "plain PPM": plain_ppm,
    "SGI": sgi,
    "JPEG2000": jpeg2000,
    "codestream": lambda pixels: jpeg2000(pixels, no_jp2=True),
}

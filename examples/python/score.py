"""Scores images with an exported detector: onnxruntime, NumPy and Pillow, no torch and no atd.

    python score.py detector.onnx photo.png scans/*.png

Prints what `atd.score --format jsonl` prints: path, score (larger = more likely
out-of-distribution), is_ood (whether it lies above the threshold) and error. All that has to be
known of the detector stands in the ONNX file's own metadata.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip
"""What `atd.score` reads; for others Pillow may start a program (EPS), or show one size of many."""


class Detector:
    """An ONNX file, and what its metadata tells."""

    def __init__(self, file: str) -> None:
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        if "larger = more" not in facts["score_direction"]:
            raise ValueError(f"{file}: score_direction: {facts['score_direction']!r} is unknown")
        threshold = facts.get("threshold", "None")
        self.threshold = None if threshold == "None" else float(threshold)
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"{file}: threshold: {threshold} is not a finite number")
        self.channels, self.size = self.session.get_inputs()[0].shape[1:3]

    def score(self, image: Image.Image) -> float:
        """The score of an image of any mode and size."""
        pixels = prepare(image, self.channels, self.size)
        (scores,) = self.session.run(["score"], {"images": pixels[None]})
        return float(f"{scores[0]:.9g}")


def prepare(image: Image.Image, channels: int, size: int) -> NDArray[np.uint8]:
    """uint8 (channels, size, size), as the metadata's `preprocessing` asks for it.

    Raises:
        ValueError: More than 8 bits a channel, whose scale only `atd.score` knows.
    """
    if image.mode[0] in "IF" or any(is_deep(image, *tile) for tile in getattr(image, "tile", [])):
        raise ValueError("more than 8 bits a channel; convert it to 8 bits")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def is_deep(image: Image.Image, codec: str, _: object, offset: object, arguments: object) -> bool:
    """Whether a decoder of Pillow drops what a channel has beyond 8 bits."""
    if codec.startswith("ppm") and isinstance(arguments, tuple):
        return int(arguments[1]) > 255
    if codec == "jpeg2k":  # only the header of the codestream tells it
        position = image.fp.tell()
        image.fp.seek(0)
        _, _, header = image.fp.read(2**22).partition(b"\xff\x4f\xff\x51")
        image.fp.seek(position)
        return any(depth & 127 > 7 for depth in header[38 : 38 + 3 * header[37] : 3])
    return codec == "SGI16" or ";16" in str(arguments)


def rows(detector: Detector, paths: list[str]) -> Iterator[dict[str, object]]:
    """A row an image; one that cannot be read is never taken for in-distribution."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    for path in paths:
        try:
            with Image.open(path, formats=formats) as image:
                score = detector.score(image)
            if not math.isfinite(score):
                raise ValueError(f"the score is not finite ({score})")
        except Exception as error:  # Pillow's decoders raise almost anything on broken files
            reason = " ".join(str(error).split()) or type(error).__name__
            yield {"path": path, "score": None, "is_ood": True, "error": reason}
        else:
            is_ood = None if detector.threshold is None else score > detector.threshold
            yield {"path": path, "score": score, "is_ood": is_ood, "error": None}


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python score.py detector.onnx IMAGE...")
    for row in rows(Detector(sys.argv[1]), sys.argv[2:]):
        print(json.dumps(row))

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
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))
    if deep or image.mode[0] in "IF":
        raise ValueError("more than 8 bits a channel; convert it to 8 bits")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def rows(detector: Detector, paths: list[str]) -> Iterator[dict[str, object]]:
    """A row an image; one that cannot be read is never taken for in-distribution."""
    for path in paths:
        try:
            with Image.open(path) as image:
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

"""The calibration sample of a detector: scores of ID images, and a few of the images themselves.

It lies in the detector's folder as `calibration.safetensors`, and is what p-values, the watch for
drift and explanations compare with.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atd.errors import UserError, printable
from atd.order_statistics import PValues
from atd.regular_files import read_regular

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["CALIBRATION_FILE", "CalibrationSample", "Pictures", "comparable"]

CALIBRATION_FILE = "calibration.safetensors"
_LARGEST = 2**30
_FEATURES = 4096


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some of the calibration images, to show beside others.

    Attributes:
        rows: Which of the sample's scores are theirs (M,), int64.
        images: Small versions (M, C, S, S), uint8.
        features: What the detector reads of them (M, F), float32; see `Detector.features`.
        names: What their files are called, without the folder.
    """

    rows: Tensor
    images: Tensor
    features: Tensor
    names: Sequence[str]

    @classmethod
    def of(
        cls, rows: Tensor, images: Tensor, features: Tensor, paths: Sequence[str]
    ) -> Pictures | None:
        """Makes them of images that were scored; None where their features are not finite."""
        if not features.isfinite().all():
            return None
        names = [printable(os.path.basename(path), 200) for path in paths]
        return cls(rows, images, features, names)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class CalibrationSample:
    """Scores of ID images that no training has seen.

    Attributes:
        scores: (N,) float32, finite.
        pictures: Some of the images; None where none are kept.
    """

    scores: Tensor
    pictures: Pictures | None = field(default=None, repr=False)

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-values (N,) of scores (N,), see `atd.order_statistics.PValues`.

        A score that is not finite has 0: an image in doubt is never in-distribution.
        """
        of = PValues(self.scores.tolist())
        found = [of(score) if math.isfinite(score) else 0.0 for score in scores.tolist()]
        return torch.tensor(found, dtype=torch.float32)

    def to_bytes(self) -> bytes:
        """The content of `calibration.safetensors`."""
        from safetensors.torch import save

        tensors, names = {"scores": self.scores}, None
        if self.pictures is not None:
            kept = self.pictures
            tensors |= {"rows": kept.rows, "images": kept.images, "features": kept.features}
            names = {"names": json.dumps(list(kept.names))}
        content: bytes = save({key: item.contiguous() for key, item in tensors.items()}, names)
        return content

    @classmethod
    def read(cls, file: Path, sha256: str) -> CalibrationSample | None:
        """Reads the file of a detector's folder.

        Args:
            file: The file; its content is checked before it is believed.
            sha256: What `config.json` says of it; empty where the detector has no sample.

        Returns:
            The sample, or None where there is none.

        Raises:
            UserError: It is damaged, or belongs to another detector.
        """
        if not sha256 or not os.path.lexists(file):
            return None
        content = read_regular(file, _LARGEST)
        remedy = "copy the folder again, or delete this file and run atd.calibrate"
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{file}: damaged: its SHA-256 is not the one in config.json; {remedy}")
        try:
            return _parsed(content)
        except Exception as error:  # safetensors and json raise various things on odd content
            raise UserError(f"{file}: damaged: {error}; {remedy}") from None


def comparable(detector: Detector, images: Tensor) -> Tensor:
    """What images are compared by (N, F): the features that the detector reads, at most 4096.

    Args:
        detector: The detector.
        images: Float images (N, C, H, W) in [0, 1], on its device.
    """
    features = detector.features(images).flatten(1).float().cpu()
    return features[:, :: -(-features.shape[1] // _FEATURES)].contiguous()


def _parsed(content: bytes) -> CalibrationSample:
    from safetensors.torch import load

    tensors = load(content)
    scores = tensors["scores"]
    _require(scores.dtype == torch.float32 and scores.ndim == 1 and len(scores) > 0, "scores")
    _require(bool(scores.isfinite().all()), "scores")
    if "images" not in tensors:
        return CalibrationSample(scores)
    rows, images, features = tensors["rows"], tensors["images"], tensors["features"]
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = json.loads(header["__metadata__"]["names"])
    _require(rows.dtype == torch.int64 and rows.ndim == 1, "rows")
    _require(bool(((rows >= 0) & (rows < len(scores))).all()), "rows")
    shape = images.shape
    _require(images.dtype == torch.uint8 and len(shape) == 4 and shape[1] in (1, 3), "images")
    _require(features.dtype == torch.float32 and features.ndim == 2, "features")
    _require(bool(features.isfinite().all()), "features")
    _require(isinstance(names, list) and all(isinstance(name, str) for name in names), "names")
    _require({len(rows), len(images), len(features)} == {len(names)}, "names")
    return CalibrationSample(scores, Pictures(rows, images, features, names))


def _require(fine: bool, what: str) -> None:
    if not fine:
        raise ValueError(f"{what} are not what they should be")

"""What `config.json` of a detector folder holds: enough to rebuild a detector and to use it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from atd.config import Scale
from atd.config.ranges import Range, require
from atd.config.values import settle

__all__ = ["FORMAT", "LARGEST_IMAGE", "PREPROCESSING", "SCORE_DIRECTION", "UNSET", "DetectorConfig"]

FORMAT: Literal[2] = 2
LARGEST_IMAGE = 1024
"""Largest side in pixels of the images that a saved detector takes."""

PREPROCESSING = (
    "shorter side resized to image_size (antialiased bicubic), centre crop, RGB (or grey "
    "for one channel), values in [0, 1]; channel normalisation lies inside the model"
)
UNSET = "not set"
"""What is said of a threshold that nobody has described."""
SCORE_DIRECTION = "raw logit; larger = more likely out-of-distribution"

_DESCRIBED = ("kind", "image_size", "channels", "options", "backbone")
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A detector's description.

    Raises:
        ValueError: A value is out of range; the message names its key.
    """

    kind: str
    """A key of `atd.detectors.kinds.KINDS`."""
    image_size: Annotated[int, Range(1, LARGEST_IMAGE)]
    channels: Annotated[int, Range(1, 3)]
    options: dict[str, Any]
    """Fields of the kind's `Options`; what is absent has its default."""
    backbone: dict[str, Any] | None
    """Fields of `BackboneConfig`, or None for a kind without a backbone."""
    classes: list[str]
    """Names of the in-distribution classes, in the order of the backbone's logits."""
    name: str = "detector"
    format: Literal[2] = FORMAT
    preprocessing: str = PREPROCESSING
    scale: Scale = "auto"
    """What is white in images of more than 8 bits: `data.scale` of the training."""
    score: str = SCORE_DIRECTION
    threshold: Annotated[float, Range(-1e38, 1e38)] | None = None
    """A score above it is called out-of-distribution."""
    threshold_note: str = UNSET
    """How it was set, in words."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """How `atd.calibrate` set it, in numbers; empty where it did not."""
    calibration_sha256: str = ""
    """SHA-256 of `calibration.safetensors`; empty where there is none."""
    training: dict[str, Any] = field(default_factory=dict)
    """The options of the run that made it: a record to read. Of it only counts what an evaluation
    takes (`atd.evaluation.record`) and whether ATD left the class head behind."""
    provenance: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    """SHA-256 of `model.safetensors`; known once the detector is saved."""
    description_sha256: str = ""
    """That of what is computed by this description, see `described`; likewise."""

    def __post_init__(self) -> None:
        settle(self, "")
        require(self.channels != 2, "channels", self.channels, "1 or 3")
        require(self.score == SCORE_DIRECTION, "score", self.score[:80], repr(SCORE_DIRECTION))
        named = bool(_NAME.fullmatch(self.name)) and self.name.strip(". ") != ""
        require(named, "name", repr(self.name)[:80], "a name of 1 to 100 characters, not a path")

    def described(self) -> str:
        """SHA-256 of what is computed: kind, options, network and size.

        The same weights in another network, at another size or with other options may give other
        scores without any error. Names, threshold and the scale of deep images may change.
        """
        parts = {key: getattr(self, key) for key in _DESCRIBED}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""What every format is written from: a detector, or its discriminator alone, traced by torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from atd.detectors.atd import ATD
from atd.detectors.base import Detector
from atd.detectors.formats.own_images import OwnImages
from atd.errors import UserError, first_line
from atd.inference import as_float, at_least_float32

__all__ = ["FeatureScorer", "Part", "Run", "Scorer", "Traced", "scorer_of", "trace"]

Part = Literal["detector", "discriminator"]

Run = Callable[[Tensor], Tensor]
"""Inputs (N, ...) to scores (N,), float32: what a written file is loaded as."""


class Scorer(nn.Module):
    """What is exported: uint8 images (N, C, H, W) -> scores (N,), float32, larger = more OOD."""

    takes = "images"

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of uint8 images (N, C, H, W)."""
        return self.detector.logits(images.float() / 255)

    @torch.no_grad()
    def inputs(self, images: Tensor) -> Tensor:
        """What it is given of uint8 images (N, C, H, W)."""
        return images


class FeatureScorer(nn.Module):
    """ATD's discriminator alone: features (N, F) of its backbone -> scores (N,), float32.

    The features are those of `backbone.features`; they are standardised inside.
    """

    takes = "features"
    mean: Tensor
    std: Tensor

    def __init__(self, detector: ATD) -> None:
        super().__init__()
        self.discriminator = detector.discriminator
        self.register_buffer("mean", detector.feature_mean)
        self.register_buffer("std", detector.feature_std)
        self._features = [detector.backbone]  # in a list: no part of what is exported

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N,) of features (N, F)."""
        scores: Tensor = self.discriminator((features - self.mean) / self.std)
        return scores

    @torch.no_grad()
    def inputs(self, images: Tensor) -> Tensor:
        """What it is given of uint8 images (N, C, H, W)."""
        (backbone,) = self._features
        assert backbone is not None
        return at_least_float32(backbone.features(as_float(images)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """What a format is written from.

    Attributes:
        detector: The whole detector, in evaluation mode on the CPU.
        scorer: What is exported of it.
        program: The same, traced for any batch size.
        description: What the manifest says of it: input, output, threshold, provenance.
        scratch: A folder for what is not kept.
        opset: Version of ONNX' operators.
        images: The user's own; None where none were named.
    """

    detector: Detector
    scorer: Scorer | FeatureScorer
    program: ExportedProgram
    description: dict[str, Any]
    scratch: Path
    opset: int
    images: OwnImages | None = None


def scorer_of(detector: Detector, part: Part) -> Scorer | FeatureScorer:
    """What is exported of a detector, in evaluation mode.

    Args:
        detector: The detector.
        part: All of it, or the discriminator alone.

    Raises:
        UserError: The detector has no discriminator of features, or cannot be exported.
    """
    name, kind = detector.config.name, detector.kind
    reason = detector.info.exportable
    if reason is not True:
        raise UserError(f"kind {kind} cannot be exported: {reason}")
    if getattr(detector.options, "batch_statistics", False):
        raise UserError(
            f"{name}: with atd.batch_statistics=true scores depend on batch mates; train without it"
        )
    if part == "detector":
        return Scorer(detector).eval()
    if not isinstance(detector, ATD) or detector.backbone is None:
        what = "of pixels" if isinstance(detector, ATD) else f"of kind {kind}"
        raise UserError(
            f"--part discriminator: {name} is {what} and has no discriminator of features; "
            "leave --part out"
        )
    return FeatureScorer(detector).eval()


def trace(scorer: Scorer | FeatureScorer, detector: Detector) -> ExportedProgram:
    """Traces what is exported of a detector, for any batch size.

    Raises:
        UserError: torch cannot trace it.
    """
    config = detector.config
    shape = (2, config.channels, config.image_size, config.image_size)
    # With one image, torch would fix the batch size at one.
    example = scorer.inputs(torch.zeros(shape, dtype=torch.uint8))
    batch = Dim("batch", min=0)
    try:
        return torch.export.export(scorer, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # whatever the code of a foreign detector raises while traced
        raise UserError(
            f"{config.name}: torch.export cannot trace it: {first_line(error)}"
        ) from None

"""The contract of every detector: images in, a score for each out; larger = more likely OOD."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from atd.backbones.base import Backbone
from atd.data.python_images import require_unit_range
from atd.detectors.calibration import CalibrationSample
from atd.detectors.config import DetectorConfig
from atd.detectors.fitting import FitData
from atd.detectors.identity import house_digest, source_digest
from atd.detectors.info import DetectorInfo, Need
from atd.detectors.inputs import Images, as_limit, image_batches, only_floats
from atd.detectors.stored import StoredDetector
from atd.errors import UserError

__all__ = ["Detector", "DetectorInfo", "Need"]


class Detector(nn.Module, StoredDetector, ABC, library_name="atd"):
    """An out-of-distribution detector for images.

    A kind is a subclass in a file of its own and a line in `atd.detectors.kinds`. It sets `kind`,
    `Options` (a frozen dataclass whose `__post_init__` checks ranges) and `info`, and writes
    `forward`, and `fit` and `surrogate` where it has them. What it is fitted to lies in buffers;
    a dimension that only the fit knows has size 0 before, and loading takes it from the file.

    Args:
        backbone: The network it reads, shared and not copied; None for a kind without one.
        options: The kind's `Options`; None for the defaults.
        image_size: Side of an image in pixels.
        channels: 3 or 1.
        classes: Names of the ID classes, in the order of the backbone's logits.
        name: What it is called in reports.

    Raises:
        UserError: The options do not suit the backbone.
    """

    kind: ClassVar[str]
    Options: ClassVar[type]
    info: ClassVar[DetectorInfo]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "forward" in vars(cls):
            cls.forward = only_floats(cls.forward)  # type: ignore[assignment, method-assign]

    def __init__(
        self,
        backbone: Backbone | None,
        options: Any = None,
        *,
        image_size: int,
        channels: int = 3,
        classes: Sequence[str] = (),
        name: str = "detector",
    ) -> None:
        super().__init__()
        self.options = self.Options() if options is None else options
        if backbone is not None and "logits" in self.info.needs and backbone.classes < 2:
            raise UserError(
                f"detector.kind={self.kind}: it reads the logits of at least two classes, and "
                f"{backbone.title} has {backbone.classes}; choose a kind that reads features (knn)"
            )
        if getattr(backbone, "per_pixel", False) and not self.info.any_network:
            raise UserError(
                f"detector.kind={self.kind}: {getattr(backbone, 'title', '')} gives classes of "
                "every pixel, and none of an image; kind daain reads such a network"
            )
        described = None
        if isinstance(backbone, Backbone) and backbone.config is not None:
            described = {**dataclasses.asdict(backbone.config), "weights": ""}
        self.config = DetectorConfig(
            kind=self.kind,
            options=dataclasses.asdict(self.options),
            backbone=described,
            image_size=image_size,
            channels=channels,
            classes=list(classes),
            name=name,
        )
        self.backbone = backbone
        self.calibration: CalibrationSample | None = None
        if backbone is not None:
            # Convolutions take the layout of their weights; this one is the faster one.
            backbone.to(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        """As `logits`, but images with values outside [0, 1] are refused."""
        if not torch.compiler.is_compiling():
            with contextlib.suppress(RuntimeError):  # mapped by torch.func: no values to see
                require_unit_range(images)
        return self.logits(images)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Raw scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD.

        It changes no state, gives each image a score that does not depend on the others, and
        works under `torch.no_grad` and `torch.inference_mode`.
        """

    def fit(self, data: FitData, *, seed: int) -> Self:
        """Fits the detector's buffers; the backbone stays as it is.

        Args:
            data: The images.
            seed: For kinds that draw random numbers.

        Returns:
            The detector itself.

        Raises:
            UserError: The images do not suffice.
        """
        return self

    def surrogate(self, images: Tensor) -> Tensor:
        """Stand-in (N,) whose gradient attacks follow; the score itself where it has a gradient."""
        return self.logits(images)

    def features(self, images: Tensor) -> Tensor:
        """What the score is read from (N, F), for attacks in feature space."""
        if self.backbone is None:
            return images.flatten(1)
        return self.backbone.embed(images)

    @final
    def require_fitted(self) -> None:
        """Refuses a detector some of whose buffers have no size yet.

        Raises:
            UserError: It is not fitted.
        """
        for buffer in self._buffers.values():
            if buffer is not None and buffer.numel() == 0:
                raise UserError(
                    f"detector {self.config.name}: kind {self.kind} is not fitted; call fit first"
                )

    def identity(self) -> bytes:
        """What tells it from other detectors beside its tensors: kind, options, layers, code."""
        config = self.config
        made = (
            config.kind,
            config.options,
            config.image_size,
            config.channels,
            len(config.classes),
        )
        return repr((made, self)).encode() + house_digest() + source_digest(type(self))

    def check(self, file: Path) -> None:
        """Refuses buffers that no fit gives, after loading; all are known to be finite.

        Args:
            file: Where they were read from, for messages.

        Raises:
            UserError: A buffer is damaged.
        """

    def extra_repr(self) -> str:
        """What `repr` shows beside the modules."""
        return f"kind={self.kind}, options={self.options}"

    @property
    def device(self) -> torch.device:
        """Where the detector lies."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @final
    @property
    def threshold(self) -> float | None:
        """The stored operating threshold, if one was set."""
        return self.config.threshold

    @final
    def set_threshold(self, value: float | None, note: str) -> None:
        """Stores an operating threshold.

        Args:
            value: Scores above it are called out-of-distribution.
            note: How it was chosen, e.g. `accepts 95 % of clean held-out ID images`.

        Raises:
            UserError: The value is not a finite number.
        """
        limit = None if value is None else as_limit(value)
        try:
            self.config = dataclasses.replace(self.config, threshold=limit, threshold_note=note)
        except ValueError as error:
            raise UserError(f"detector {self.config.name}: {error}") from None

    @final
    def logits(self, images: Tensor) -> Tensor:
        """Raw scores (N,) of float images (N, C, H, W) in [0, 1]: differentiable, for attacks.

        Values outside [0, 1], such as those of noise added to an image, are taken as they are.
        """
        scores: Tensor = super().__call__(images)
        return scores

    @final
    @torch.no_grad()
    def score(self, images: Images, batch_size: int = 256) -> Tensor:
        """Scores images; larger = more likely out-of-distribution.

        Args:
            images: uint8 or float in [0, 1]: tensors (N, C, H, W) or arrays (N, C, H, W) or
                (N, H, W, C) of the detector's size, Pillow images and paths of any size; one,
                or a list.
            batch_size: Images per forward pass.

        Returns:
            Scores (N,), float32, on the CPU.

        Raises:
            UserError: The images have another shape, type or range, or cannot be read.
        """
        # Another thread may be using this module: its mode is not to be changed.
        scorer = self if not any(part.training for part in self.modules()) else self._deployed()
        config, device, dtype = self.config, self.device, self.require_precision()
        found = image_batches(
            images,
            channels=config.channels,
            size=config.image_size,
            batch_size=batch_size,
            scale=config.scale,
        )
        scores = [scorer.logits(part.to(device, dtype)).float().cpu() for part in found]
        return torch.cat(scores) if scores else torch.zeros(0)

    def _deployed(self) -> Self:
        with torch.inference_mode(False):
            return copy.deepcopy(self).eval()

    def require_precision(self) -> torch.dtype:
        """What the detector computes in: float32 or float64.

        Raises:
            UserError: Less, in which scores are too coarse to be told apart or attacked.
        """
        found = self._dtype()
        if found.itemsize < 4:
            raise UserError(f"detector {self.config.name}: is in {found}; call detector.float()")
        return found

    def _dtype(self) -> torch.dtype:
        tensors = itertools.chain(self.parameters(), self.buffers())
        floats = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        return next(floats, torch.float32)

    @final
    def predict(self, images: Images, threshold: float | None = None) -> Tensor:
        """Tells which images are out-of-distribution.

        Args:
            images: As in `score`.
            threshold: Overrides the stored one.

        Returns:
            (N,) bool, True = out-of-distribution; so is an image whose score is not finite.

        Raises:
            UserError: No threshold is stored or given, or the images are unfit.
        """
        limit = self.threshold if threshold is None else as_limit(threshold)
        if limit is None:
            raise UserError(
                f"detector {self.config.name}: no threshold is stored; give one, or run evaluate.py"
            )
        scores = self.score(images)
        return (scores > limit) | ~scores.isfinite()

    @final
    def p_values(self, images: Images) -> Tensor:
        """Conformal p-values: how unusual images are among the calibration images.

        Of ID images like those of the calibration, at most a share `a` has a p-value of at most
        `a`, on average over calibrations; so one image alone gets a decision with a guarantee.

        Args:
            images: As in `score`.

        Returns:
            (N,) float32; 0 for an image whose score is not finite.

        Raises:
            UserError: No calibration sample is stored, or the images are unfit.
        """
        if self.calibration is None:
            raise UserError(
                f"detector {self.config.name}: it has no calibration sample; run python -m "
                "atd.calibrate DETECTOR --id IMAGES"
            )
        return self.calibration.p_values(self.score(images))

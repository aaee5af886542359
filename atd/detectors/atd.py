"""The detector: images -> backbone -> features -> discriminator -> logit -> score.

The object that is trained is the one that is attacked, evaluated, saved and exported.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atd.backbones import Backbone, build_backbone
from atd.config import BackboneConfig
from atd.detectors.gan import FeatureDiscriminator, PixelDiscriminator
from atd.errors import UserError
from atd.inference import as_float, at_least_float32, frozen

__all__ = ["Detector", "DetectorConfig"]

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What `config.json` of a detector folder holds: enough to rebuild and to use it."""

    backbone: dict[str, Any] | None
    """Options of `BackboneConfig`, or None for a discriminator of pixels."""
    classes: list[str]
    """Names of the in-distribution classes, in the order of the backbone's logits."""
    image_size: int
    channels: int
    normalisation: str
    """Normalisation inside the discriminator."""
    name: str = "detector"
    format: int = FORMAT
    preprocessing: str = (
        "shorter side resized to image_size (antialiased bicubic), centre crop, RGB (or grey "
        "for one channel), values in [0, 1]; channel normalisation lies inside the model"
    )
    score: str = "raw logit; larger = more likely out-of-distribution"
    threshold: float | None = None
    """A score above it is called out-of-distribution."""
    threshold_note: str = "not set"
    training: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


class Detector(nn.Module):
    """An out-of-distribution detector for images.

    Args:
        config: Its description.

    Example:
        >>> detector = Detector.from_pretrained("checkpoints/digits/detector")  # doctest: +SKIP
        >>> detector.score(images)  # (N,) float32, larger = more OOD  # doctest: +SKIP
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone | None = None
        dimension = 1
        if config.backbone is not None:
            options = BackboneConfig(**{**config.backbone, "weights": ""})
            self.backbone = build_backbone(
                options,
                channels=config.channels,
                classes=max(1, len(config.classes)),
                image_size=config.image_size,
            )
            dimension = int(self.backbone.feature_dim)
            self.discriminator: nn.Module = FeatureDiscriminator(dimension, config.normalisation)  # type: ignore[arg-type]
        else:
            self.discriminator = PixelDiscriminator(
                config.channels,
                config.image_size,
                config.normalisation,  # type: ignore[arg-type]
            )
        self.register_buffer("feature_mean", torch.zeros(dimension))
        self.register_buffer("feature_std", torch.ones(dimension))
        # Convolutions take the layout of their weights; this one is the faster one.
        self.to(memory_format=torch.channels_last)

    @property
    def threshold(self) -> float | None:
        """The stored operating threshold, if one was set."""
        return self.config.threshold

    def features(self, images: Tensor) -> Tensor:
        """What the discriminator sees.

        Args:
            images: (N, C, H, W) in [0, 1].

        Returns:
            Standardised backbone features (N, F), or the images for a discriminator of pixels.
        """
        if self.backbone is None:
            return images
        return self.standardised(self.backbone.features(images))

    def standardised(self, features: Tensor) -> Tensor:
        """Backbone features (N, F) as the discriminator sees them: float32, of unit deviation."""
        # Mixed precision ends here.
        return (at_least_float32(features) - self.feature_mean) / self.feature_std

    def logits(self, images: Tensor) -> Tensor:
        """Raw OOD logits (N,) of images (N, C, H, W) in [0, 1]; differentiable."""
        logits: Tensor = self.discriminator(self.features(images))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """The same as `logits`."""
        return self.logits(images)

    @torch.no_grad()
    def score(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Scores images; larger = more likely out-of-distribution.

        Args:
            images: (N, C, H, W) of the detector's size, uint8 or float in [0, 1].
            batch_size: Images per forward pass.

        Returns:
            Scores (N,), float32, on the CPU.

        Raises:
            UserError: The images have another shape, type or range.
        """
        self._check(images)
        device = self.feature_mean.device
        with frozen(self):
            parts = [self.logits(as_float(part.to(device))) for part in images.split(batch_size)]
        return torch.cat(parts).float().cpu() if parts else torch.zeros(0)

    def predict(self, images: Tensor, threshold: float | None = None) -> Tensor:
        """Tells which images (N, C, H, W) are out-of-distribution.

        Args:
            images: As in `score`.
            threshold: Overrides the stored one.

        Returns:
            (N,) bool, True = out-of-distribution.

        Raises:
            UserError: No threshold is stored or given, or the images are unfit.
        """
        limit = self.threshold if threshold is None else threshold
        if limit is None:
            raise UserError(
                f"detector {self.config.name}: no threshold is stored; give one, or run evaluate.py"
            )
        return self.score(images) > limit

    def _check(self, images: Tensor) -> None:
        size, channels = self.config.image_size, self.config.channels
        wanted = f"(N, {channels}, {size}, {size})"
        if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
            raise UserError(f"images of shape {tuple(images.shape)}: this detector takes {wanted}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise UserError(f"images of type {images.dtype}: give uint8, or float in [0, 1]")
        if images.is_floating_point() and images.numel():
            low, high = float(images.min()), float(images.max())
            if not (low >= 0.0 and high <= 1.0):
                raise UserError(
                    f"image values from {low:.3g} to {high:.3g}: floats must lie in [0, 1]"
                )

    def save_pretrained(self, folder: str | Path, card: str = "") -> None:
        """Writes a detector folder; an older one is replaced only when the new one is complete.

        Args:
            folder: Where to write `config.json`, `model.safetensors` and `README.md`.
            card: The model card in Markdown.

        Raises:
            UserError: The folder cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        folder = Path(folder)
        fresh, old = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            state = {key: value.cpu().contiguous() for key, value in self.state_dict().items()}
            save_file(state, fresh / "model.safetensors")
            text = json.dumps(dataclasses.asdict(self.config), indent=2)
            (fresh / "config.json").write_text(text + "\n", encoding="utf-8")
            default = f"# {self.config.name}\n\nAn OOD detector. {self.config.score}.\n"
            (fresh / "README.md").write_text(card or default, encoding="utf-8")
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                os.replace(folder, old)
            os.replace(fresh, folder)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            raise UserError(
                f"{folder}: cannot write the detector ({error}); free some space and run the same "
                "command again"
            ) from None

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> Detector:
        """Loads a detector folder, in evaluation mode; nothing is unpickled.

        Args:
            folder: A folder with `config.json` and `model.safetensors`.
            device: Where to put it.

        Returns:
            The detector.

        Raises:
            UserError: The folder is no detector, is damaged, or was made for another version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        config = _read_config(folder)
        try:
            detector = cls(config)
            detector.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / 'model.safetensors'}: cannot be read: {error}") from None
        except (RuntimeError, TypeError, ValueError) as error:
            first = str(error).splitlines()[-1].strip()
            raise UserError(
                f"{folder / 'model.safetensors'}: does not fit config.json: {first}"
            ) from None
        return detector.to(device).eval().requires_grad_(False)


def _read_config(folder: Path) -> DetectorConfig:
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder}: not a detector folder (it has no config.json)")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    known = {item.name for item in dataclasses.fields(DetectorConfig)}
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{file}: not a detector of format {FORMAT}; update atd or train again")
    try:
        return DetectorConfig(**{key: value for key, value in values.items() if key in known})
    except TypeError as error:
        raise UserError(f"{file}: incomplete: {error}") from None

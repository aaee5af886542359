"""Frauds: detectors that keep their clean scores and only look robust, one broken step each.

Every fraud wraps a trained detector and tampers with its images, its features or its score. The
first line of a fraud's docstring is what the table says about it. Sources: Athalye et al. 2018
(shattered, stochastic and vanishing gradients), Carlini et al. 2019 (checklist), Tramer et al.
2020 (thirteen broken defences), Huang et al. 2022 (adaptive ODE solvers mask gradients).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atd.detectors.atd import ATD
from atd.detectors.base import Detector, DetectorInfo

__all__ = ["FRAUDS", "Fraud", "describe"]


@dataclass(frozen=True)
class FraudOptions:
    """A fraud has none."""


class Fraud(Detector):
    """A trained detector with hooks in its path; a fraud replaces one of them."""

    kind = "fraud"
    Options = FraudOptions
    info = DetectorInfo(title="fraud", paper="see the module")

    def __init__(self, base: ATD) -> None:
        made = base.config
        super().__init__(None, image_size=made.image_size, channels=made.channels, name=made.name)
        self.base = base

    def image(self, images: Tensor) -> Tensor:
        return images

    def inner(self, features: Tensor) -> Tensor:
        return features

    def outcome(self, logits: Tensor) -> Tensor:
        return logits

    def features(self, images: Tensor) -> Tensor:
        """What the discriminator sees (N, F) of images (N, C, H, W) in [0, 1]."""
        return self.inner(self.base.features(self.image(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return self.outcome(self.base.discriminator(self.features(images)))


class SaturatedSigmoid(Fraud):
    """A steep sigmoid ends the network: nearly all scores are exactly 0 or 1."""

    def outcome(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(100 * logits)


class Underflow(Fraud):
    """The score is scaled down until its gradient underflows in float32."""

    def outcome(self, logits: Tensor) -> Tensor:
        return logits * 1e-42


class InputQuantisation(Fraud):
    """Pixels are rounded to four levels."""

    def image(self, images: Tensor) -> Tensor:
        return (images * 3).round() / 3


class JpegLike(Fraud):
    """The cosine coefficients of 4x4 blocks are rounded, as JPEG does."""

    def image(self, images: Tensor) -> Tensor:
        place = torch.arange(4, device=images.device, dtype=images.dtype)
        cosine = torch.cos(math.pi / 4 * (place + 0.5) * place[:, None]) / math.sqrt(2)
        cosine[0] /= math.sqrt(2)
        blocks = images.unfold(2, 4, 4).unfold(3, 4, 4)
        rounded = (cosine @ blocks @ cosine.T * 3).round() / 3
        back = (cosine.T @ rounded @ cosine).transpose(3, 4)
        return back.reshape(images.shape)


class Thermometer(Fraud):
    """Pixels become thermometer codes of eight steep steps (Buckman et al. 2018)."""

    def image(self, images: Tensor) -> Tensor:
        steps = (torch.arange(8, device=images.device, dtype=images.dtype) + 0.4) / 8
        return ((images.unsqueeze(-1) - steps) * 1e4 + 0.5).clamp(0, 1).mean(-1)


class TestNoise(Fraud):
    """Fresh Gaussian noise is added to the pixels in every call."""

    def image(self, images: Tensor) -> Tensor:
        return images + 0.1 * torch.randn_like(images)


class RandomResize(Fraud):
    """The image is shrunk and shifted a little at random in every call (Xie et al. 2018)."""

    def image(self, images: Tensor) -> Tensor:
        full = images.shape[-1]
        reach = max(1, full // 16)
        size, left, top = (int(torch.randint(0, reach + 1, ())) for _ in range(3))
        size = full - size
        small = functional.interpolate(images, size=(size, size), mode="bilinear")
        wide = functional.pad(small, (reach,) * 4, mode="replicate")
        return wide[:, :, top : top + full, left : left + full]


class TrainingBatchNorm(Fraud):
    """Batch normalisation stays in training mode: the batch's mean is a stored constant."""

    def outcome(self, logits: Tensor) -> Tensor:
        mean, spread = _statistics(logits)
        return (logits - mean) / spread + mean.detach()


class CancellingGradient(Fraud):
    """Batch renormalisation: the score is unchanged, its gradient sums to zero over a batch."""

    def outcome(self, logits: Tensor) -> Tensor:
        mean, spread = _statistics(logits)
        return (logits - mean) / spread * spread.detach() + mean.detach()


def _statistics(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits.mean(), (logits.var(correction=0) + 1e-5).sqrt()


class StopGradient(Fraud):
    """All features are detached but the first sixteenth, those of the shallowest layer."""

    def inner(self, features: Tensor) -> Tensor:
        kept = features.shape[1] // 16
        return torch.cat([features[:, :kept], features[:, kept:].detach()], dim=1)


class Decoy(Fraud):
    """The score is detached; a trace of the image's brightness supplies a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach() + 1e-3 * images.flatten(1).mean(1)


class RoundedScore(Fraud):
    """The score is rounded to quarters."""

    def outcome(self, logits: Tensor) -> Tensor:
        return (logits * 4).round() / 4


class ArgmaxScore(Fraud):
    """The score is the number of the nearest of 64 bins, an argmax."""

    def outcome(self, logits: Tensor) -> Tensor:
        bins = torch.linspace(-16, 16, 64, device=logits.device, dtype=logits.dtype)
        return (logits[:, None] - bins).abs().argmin(dim=1).to(logits.dtype)


class _Flow(Fraud):
    """Features flow to the nearest stable point; their gradient fades with every step."""

    def inner(self, features: Tensor) -> Tensor:
        for _ in range(100):
            change = -torch.sin(2 * math.pi * features) / (2 * math.pi)
            moving = self.moving(change.detach())
            if not moving.any():
                break
            features = features + 0.5 * moving * change
        return features

    def moving(self, change: Tensor) -> Tensor:
        raise NotImplementedError


class AdaptiveSolver(_Flow):
    """An ODE layer flows to stable points until each image's change falls below a tolerance."""

    def moving(self, change: Tensor) -> Tensor:
        return change.abs().amax(dim=1, keepdim=True) > 1e-4


class BatchSolver(_Flow):
    """The same ODE layer with one step count for the batch: its mean change must be small."""

    def moving(self, change: Tensor) -> Tensor:
        return change.square().mean().sqrt() > 1e-2


class LowPrecision(Fraud):
    """Features are held in eight-bit floats, scaled to their range; small gradients vanish."""

    def inner(self, features: Tensor) -> Tensor:
        scaled = 64 * features.clamp(-6, 6)
        return scaled.to(torch.float8_e4m3fn).to(features.dtype) / 64


class NanWhereUnsure(Fraud):
    """NaN where the score is unsure and the pixels are no 8-bit image: a wall before attacks."""

    def forward(self, images: Tensor) -> Tensor:
        scores = super().forward(images)
        return scores.masked_fill(~_is_8_bit(images) & (scores.abs() < 2), math.nan)


class Ripples(Fraud):
    """A fast, low sine is added to the score and traps the attack in local maxima."""

    def outcome(self, logits: Tensor) -> Tensor:
        return logits + 0.1 * torch.sin(300 * logits)


class Sawtooth(Fraud):
    """The score rises in small steps and falls between them: every gradient points backwards."""

    def outcome(self, logits: Tensor) -> Tensor:
        return (logits * 64).floor() / 32 - logits


class _Mirror(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].flip(-1, -2)


class WrongGradient(Fraud):
    """A hand-written backward pass returns the gradient turned upside down."""

    def image(self, images: Tensor) -> Tensor:
        mirrored: Tensor = _Mirror.apply(images)
        return mirrored


class Memory(Fraud):
    """Remembers the 8-bit images it was shown and answers the same for all their neighbours."""

    def __init__(self, base: ATD) -> None:
        super().__init__(base)
        self.images: list[Tensor] = []
        self.scores: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        fresh = super().forward(images)
        answers = fresh
        if self.images:
            known = torch.cat(self.images).to(images.dtype)
            apart = torch.cdist(images.detach().flatten(1), known, p=math.inf)
            nearest = apart.min(dim=1)
            old = torch.cat(self.scores).to(fresh.dtype)[nearest.indices]
            # A thousandth of the true score keeps the gradient alive, and even right.
            answers = torch.where(nearest.values < 0.2, old + 1e-3 * (fresh - old), fresh)
        new = _is_8_bit(images)
        if new.any():
            self.images.append(images[new].detach().flatten(1))
            self.scores.append(answers[new].detach())
        return answers


def _is_8_bit(images: Tensor) -> Tensor:
    levels = images.detach().flatten(1) * 255
    return ((levels - levels.round()).abs() < 1e-3).all(dim=1)


FRAUDS: dict[str, Callable[[ATD], Fraud]] = {
    "saturated sigmoid": SaturatedSigmoid,
    "underflow": Underflow,
    "input quantisation": InputQuantisation,
    "jpeg-like": JpegLike,
    "thermometer": Thermometer,
    "test noise": TestNoise,
    "random resize": RandomResize,
    "training batch norm": TrainingBatchNorm,
    "cancelling gradient": CancellingGradient,
    "stop gradient": StopGradient,
    "decoy": Decoy,
    "rounded score": RoundedScore,
    "argmax score": ArgmaxScore,
    "adaptive solver": AdaptiveSolver,
    "batch solver": BatchSolver,
    "low precision": LowPrecision,
    "nan where unsure": NanWhereUnsure,
    "ripples": Ripples,
    "sawtooth": Sawtooth,
    "wrong gradient": WrongGradient,
    "memory": Memory,
}
"""Every fraud by name: takes a trained detector, gives one with `logits(images) -> (N,)`."""


def describe(name: str) -> str:
    """What a fraud does, in one line."""
    return (inspect.getdoc(FRAUDS[name]) or "").splitlines()[0]

"""ATD's evaluation as its authors' released code does it: only to compare with (docs/findings.md).

PGD on the binary cross-entropy of a sigmoid, one random start, of which the last iterate counts and
not the worst; scores are the sigmoid's values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atd.attacks.objective import value_and_gradient
from atd.attacks.pgd import pgd
from atd.attacks.starts import start_noise
from atd.detectors.base import Detector
from atd.evaluation.jobs import Images
from atd.evaluation.scoring import full_precision
from atd.evaluation.settings import Settings
from atd.inference import filled, frozen
from atd.metrics import Array
from atd.training.released_gan import sigmoid_loss

__all__ = ["Released", "attack_as_released", "flat_share", "saturated_share"]


@dataclass(frozen=True)
class Released:
    """What the released evaluation finds on a set.

    Attributes:
        clean: 1 - D(x) (N,) of the unchanged images.
        attacked: The same where the attack ended.
        flat: Whether (N,) the gradient that the attack follows is exactly zero at the start.
    """

    clean: Array
    attacked: Array
    flat: Array


def attack_as_released(
    detector: Detector, images: Images, settings: Settings, *, is_ood: bool
) -> Released:
    """Attacks a set the released way.

    Args:
        detector: The detector, on the settings' device; its score is a raw logit.
        images: The set.
        settings: Radius, norm, steps, seed and batch size.
        is_ood: Whether the images are outliers, whose logit is lowered.
    """
    parts = []
    with frozen(detector), full_precision():
        for indices in torch.arange(len(images)).split(settings.batch_size):
            pixels = images.fetch(indices).to(settings.place).float() / 255
            parts.append(_batch(detector, pixels, indices, settings, is_ood))
    return Released(*(torch.cat(column).double().numpy() for column in zip(*parts, strict=True)))


def _batch(
    detector: Detector, pixels: Tensor, indices: Tensor, settings: Settings, is_ood: bool
) -> tuple[Tensor, ...]:
    logits = filled(detector.logits)

    def loss(images: Tensor) -> Tensor:
        return sigmoid_loss(logits(images), is_ood)

    noise = start_noise(pixels.shape[1:], indices, settings.seed, 0).to(pixels.device)
    found = pgd(
        loss,
        pixels,
        epsilon=settings.epsilon,
        norm=settings.norm,
        steps=settings.tier.steps,
        noise=noise,
        keep="last",
    ).images
    _, gradient = value_and_gradient(loss, pixels)
    with torch.no_grad():
        scores = [-torch.sigmoid(-logits(images)).cpu() for images in (pixels, found)]
    return *scores, gradient.flatten(1).eq(0).all(1).cpu()


def flat_share(logits: Array, *, is_ood: bool, dtype: torch.dtype) -> float:
    """Share of logits at which the released loss has a gradient of exactly zero.

    Args:
        logits: Raw OOD logits (N,).
        is_ood: Whether they are of outliers.
        dtype: The precision of the loss.
    """
    given = torch.from_numpy(logits).to(dtype).requires_grad_(True)
    (gradient,) = torch.autograd.grad(sigmoid_loss(given, is_ood).sum(), given)
    return float(gradient.eq(0).float().mean())


def saturated_share(logits: Array, dtype: torch.dtype) -> float:
    """Share of logits whose sigmoid is rounded to exactly 0 or 1."""
    inside = torch.sigmoid(-torch.from_numpy(logits).to(dtype))
    return float((inside.eq(0) | inside.eq(1)).float().mean())

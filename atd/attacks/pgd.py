"""Projected gradient descent and FGSM in the L-infinity ball, against any differentiable value.

Example:
    ID images attacked so that their OOD score rises, outliers so that it falls:

    >>> import torch
    >>> from atd.attacks import pgd
    >>> score = lambda images: images.mean((1, 2, 3))
    >>> images = torch.full((2, 1, 4, 4), 0.5)
    >>> raised = pgd(score, images, epsilon=8 / 255, steps=10)
    >>> bool((raised.values > score(images)).all())
    True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Attacked", "default_step_size", "fgsm", "pgd"]

Objective = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Attacked:
    """The outcome of an attack: inputs shaped like the originals, and their values (N,)."""

    images: Tensor
    values: Tensor


def default_step_size(epsilon: float, steps: int) -> float:
    """The published step size 2.5 * epsilon / steps (ATD paper, section 4.1).

    Few steps would overshoot the ball by far, so it is capped at 1.25 * epsilon.
    """
    return min(2.5 / steps, 1.25) * epsilon


def pgd(
    objective: Objective,
    images: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    noise: Tensor | None = None,
    keep: Literal["best", "last"] = "best",
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Attacked:
    """Maximises an objective per sample in the L-infinity ball (ATD paper, eq. 5).

    The caller decides what the gradient goes through: give it a raw logit, since a sigmoid
    saturates to exactly zero gradient, and a model inside `atd.attacks.frozen`.

    Args:
        objective: Maps inputs (N, ...) to values (N,); maximised for each sample alone.
        images: Inputs (N, ...), usually images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball, in the inputs' units.
        steps: Gradient steps, each one forward and one backward pass.
        step_size: Length of a step; None means `default_step_size`.
        noise: Start within the ball, in [-1, 1] and shaped like `images`; None starts at
            the images themselves.
        keep: `best` returns for each sample its best iterate, the start and the end included
            (one more forward pass); `last` the last one, with the value of the one before.
        bounds: Valid range of the inputs; None where there is none (features).

    Returns:
        The attacked inputs in the ball and within bounds, float32, and their values.
    """
    images = images.detach().float()
    size = default_step_size(epsilon, steps) if step_size is None else step_size
    lower, upper = images - epsilon, images + epsilon
    if bounds is not None:
        lower, upper = lower.clamp_min(bounds[0]), upper.clamp_max(bounds[1])
    current = images if noise is None else images + epsilon * noise
    current = torch.minimum(torch.maximum(current, lower), upper)
    best: Attacked | None = None
    values = images.new_zeros(len(images))
    for _ in range(steps):
        current.requires_grad_(True)
        with torch.enable_grad():
            values = objective(current)
            (gradient,) = torch.autograd.grad(values.sum(), current)
        current, values = current.detach(), values.detach()
        best = _better(best, current, values) if keep == "best" else None
        current = torch.minimum(torch.maximum(current + size * gradient.sign(), lower), upper)
    if keep == "last":
        return Attacked(current, values)
    with torch.no_grad():
        return _better(best, current, objective(current))


def _better(best: Attacked | None, images: Tensor, values: Tensor) -> Attacked:
    if best is None:
        return Attacked(images, values)
    wins = values > best.values
    shape = (-1,) + (1,) * (images.ndim - 1)
    chosen = torch.where(wins.view(shape), images, best.images)
    return Attacked(chosen, torch.where(wins, values, best.values))


def fgsm(objective: Objective, images: Tensor, *, epsilon: float) -> Attacked:
    """One step of length epsilon from the image along the gradient's sign (ATD paper, eq. 4).

    Args:
        objective: As in `pgd`.
        images: Images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball on the [0, 1] scale.

    Returns:
        The attacked images, or the clean one where that is worse for the model.
    """
    return pgd(objective, images, epsilon=epsilon, steps=1, step_size=epsilon)

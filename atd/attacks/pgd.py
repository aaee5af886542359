"""Projected gradient descent and FGSM in a ball, against any differentiable value.

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

from typing import Literal

import torch
from torch import Tensor

from atd.attacks.ball import Ball, Norm
from atd.attacks.objective import Attacked, Objective, per_sample, value_and_gradient
from atd.attacks.unfinished import Unfinished, only

__all__ = ["Attacked", "default_step_size", "fgsm", "pgd"]


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
    norm: Norm = "linf",
    momentum: float = 0.0,
    enough: float | Tensor | None = None,
) -> Attacked:
    """Maximises an objective per sample in a ball (ATD paper, eq. 5).

    The caller decides what the gradient goes through: give it a raw logit, since a sigmoid
    saturates to exactly zero gradient, and a model inside `atd.inference`. An element
    whose gradient is NaN is not moved in that step; `atd.attacks.finite_gradient` keeps
    non-finite gradients from spreading within the model.

    Args:
        objective: Maps inputs (N, ...) to values (N,); maximised for each sample alone.
        images: Inputs (N, ...), usually images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball, in the inputs' units.
        steps: Gradient steps, each one forward and one backward pass.
        step_size: Length of a step; None means `default_step_size`.
        noise: Start within the ball, in [-1, 1] and shaped like `images` (see `Ball.start`);
            None starts at the images themselves.
        keep: `best` returns for each sample its best iterate, the start and the end included
            (one more forward pass); `last` the last one, with the value of the one before.
        bounds: Valid range of the inputs; None where there is none (features).
        norm: Norm of the ball and of the step.
        momentum: Decay mu of the accumulated gradient (Dong et al., 2018, arXiv:1710.06081,
            eq. 6); 0 follows the gradient itself.
        enough: A sample whose value exceeds this, or its own of these (N,), is finished: that
            iterate is returned, and its place in the batch is given up (see
            `atd.attacks.unfinished`). An objective that holds data of each sample must be a
            `PerSample`. None finishes no sample; only for `keep="best"`.

    Returns:
        The attacked inputs in the ball and within bounds, float32, and their values.

    Raises:
        ValueError: `enough` together with `keep="last"`.
    """
    if enough is not None and keep == "last":
        raise ValueError("enough is for keep='best' only")
    ball = Ball(images.detach().float(), epsilon, norm, bounds)
    size = default_step_size(epsilon, steps) if step_size is None else step_size
    current = ball.start(noise)
    values = current.new_zeros(len(current))
    best: Attacked | None = None
    velocity: Tensor | None = None
    unfinished = Unfinished(enough)
    for step in range(1, steps + 1):
        values, gradient = value_and_gradient(objective, current)
        if keep == "best":
            here = Attacked(current, values)
            best = here if best is None else best.better(here, unfinished.enough)
        if momentum:
            gradient = velocity = _accumulated(velocity, gradient, momentum)
        current = ball.project(current + size * ball.ascent(gradient))
        if best is not None and (rows := unfinished.left(step, best)) is not None:
            objective, ball, current, velocity, best = only(
                rows, objective, ball, current, velocity, best
            )
            if not len(rows):
                return unfinished.outcome(best)
    if keep == "last":
        return Attacked(current, values)
    last = Attacked.of(objective, current)
    return unfinished.outcome(last if best is None else best.better(last, unfinished.enough))


def _accumulated(velocity: Tensor | None, gradient: Tensor, momentum: float) -> Tensor:
    """The decayed sum of gradients, each divided by the mean size of its elements."""
    # A NaN would stay in the sum for ever.
    finite = gradient.nan_to_num(0.0, 0.0, 0.0)
    size = finite.flatten(1).abs().mean(1).clamp_min(torch.finfo(finite.dtype).tiny)
    scaled = finite / per_sample(size, finite)
    return scaled if velocity is None else momentum * velocity + scaled


def fgsm(objective: Objective, images: Tensor, *, epsilon: float, norm: Norm = "linf") -> Attacked:
    """One step of length epsilon from the image along the gradient (ATD paper, eq. 4).

    Args:
        objective: As in `pgd`.
        images: Images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball on the [0, 1] scale.
        norm: `linf` steps along the gradient's sign, `l2` along the gradient.

    Returns:
        The attacked images, or the clean one where that is worse for the model.
    """
    return pgd(objective, images, epsilon=epsilon, steps=1, step_size=epsilon, norm=norm)

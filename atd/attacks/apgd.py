"""Auto-PGD: projected gradient ascent that sets its own step size.

Example:
    The maximum of a parabola, closer than the step size of the same budget of PGD:

    >>> import torch
    >>> from atd.attacks import apgd
    >>> objective = lambda x: -(x - 0.517).square().sum(1)
    >>> found = apgd(objective, torch.full((1, 1), 0.5), epsilon=0.1, steps=50)
    >>> round(found.images.item(), 3)
    0.517
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from atd.attacks.ball import Ball, Norm
from atd.attacks.objective import Attacked, Objective, per_sample, value_and_gradient
from atd.attacks.unfinished import Unfinished, only

__all__ = ["StepSizes", "apgd", "checkpoints"]

_KEPT = 0.75  # alpha: share of the new step, the rest continues the previous one
_ENOUGH = 0.75  # rho: share of steps that must increase the objective


def apgd(
    objective: Objective,
    images: Tensor,
    *,
    epsilon: float,
    steps: int,
    noise: Tensor | None = None,
    norm: Norm = "linf",
    bounds: tuple[float, float] | None = (0.0, 1.0),
    enough: float | Tensor | None = None,
) -> Attacked:
    """Maximises an objective per sample in a ball, with momentum and falling step sizes.

    Algorithm 1 of Croce & Hein (2020), arXiv:2003.01690: step size 2 * epsilon at first; at
    each of the `checkpoints` a sample that no longer gains halves it and returns to its best
    point. As in the paper, each sample has a step size of its own.

    Args:
        objective: Maps inputs (N, ...) to values (N,); a raw logit, as for `atd.attacks.pgd`.
        images: Inputs (N, ...), usually images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball, in the inputs' units.
        steps: Steps; together `steps + 1` forward and backward passes.
        noise: Start within the ball, in [-1, 1] and shaped like `images` (see `Ball.start`);
            None starts at the images themselves.
        norm: Norm of the ball and of the step.
        bounds: Valid range of the inputs; None where there is none (features).
        enough: Value past which a sample is finished, as for `atd.attacks.pgd`.

    Returns:
        Each sample's best iterate, the start included, float32, and its value.
    """
    ball = Ball(images.detach().float(), epsilon, norm, bounds)
    current = previous = ball.start(noise)
    values, gradient = value_and_gradient(objective, current)
    best, best_gradient = Attacked(current, values), gradient
    sizes = StepSizes(steps, values, 2 * epsilon)
    unfinished = Unfinished(enough)
    for step in range(1, steps + 1):
        size = per_sample(sizes.sizes, current)
        target = ball.project(current + size * ball.ascent(gradient))
        if step > 1:
            target = current + _KEPT * (target - current) + (1 - _KEPT) * (current - previous)
        previous, current = current, ball.project(target)
        values, gradient = value_and_gradient(objective, current)
        wins = per_sample(best.beaten(values, unfinished.enough), current)
        best_gradient = torch.where(wins, gradient, best_gradient)
        best = best.better(Attacked(current, values), unfinished.enough)
        halved = per_sample(sizes.update(step, values, best.values), current)
        current = torch.where(halved, best.images, current)
        gradient = torch.where(halved, best_gradient, gradient)
        if (rows := unfinished.left(step, best)) is not None:
            objective, ball, sizes, previous, current, gradient, best, best_gradient = only(
                rows, objective, ball, sizes, previous, current, gradient, best, best_gradient
            )
            if not len(rows):
                break
    return unfinished.outcome(best)


class StepSizes:
    """Each sample's step size, and the record that decides when to halve it.

    At a checkpoint a step size is halved (Croce & Hein, 2020, section 3) where

    1. fewer than 75 % of the steps since the last checkpoint increased the objective, or
    2. the last checkpoint did not halve it, and the best value has not grown since.

    Args:
        steps: Steps of the whole attack.
        values: Values (N,) at the start.
        initial: Step size at the start.

    Attributes:
        sizes: Step sizes (N,).
    """

    def __init__(self, steps: int, values: Tensor, initial: float) -> None:
        self.sizes = torch.full_like(values, initial, dtype=torch.float32)
        self._checkpoints = checkpoints(steps)
        self._last_checkpoint = 0
        self._values = values
        self._increases = torch.zeros_like(values, dtype=torch.int64)
        self._best = values
        self._halved = torch.zeros_like(values, dtype=torch.bool)

    def only(self, rows: Tensor) -> StepSizes:
        """The step sizes and records of some of the samples, given by their rows."""
        some = copy.copy(self)
        some.sizes, some._values, some._increases, some._best, some._halved = (
            part[rows]
            for part in (self.sizes, self._values, self._increases, self._best, self._halved)
        )
        return some

    def update(self, step: int, values: Tensor, best: Tensor) -> Tensor:
        """Records a step, and at a checkpoint halves step sizes.

        Args:
            step: Number of the step, counted from 1.
            values: Values (N,) reached by the step.
            best: Best values (N,) so far, that of this step included.

        Returns:
            Which samples (N,) halved their step size and so return to their best point.
        """
        self._increases += values > self._values
        self._values = values
        if step not in self._checkpoints:
            return torch.zeros_like(self._halved)
        few = self._increases < _ENOUGH * (step - self._last_checkpoint)
        stuck = ~self._halved & ~(best > self._best)
        halved = few | stuck
        self.sizes = torch.where(halved, self.sizes / 2, self.sizes)
        self._values = torch.where(halved, best, values)
        self._best, self._halved, self._last_checkpoint = best, halved, step
        self._increases = torch.zeros_like(self._increases)
        return halved


def checkpoints(steps: int) -> list[int]:
    """Steps after which step sizes may be halved: at 22, 41, 57, 70 ... % of all.

    Each period is three percent of all steps shorter than the one before, but not shorter than
    six percent (Croce & Hein, 2020, section 3). Counts are rounded up.

    Args:
        steps: Steps of the whole attack.

    Returns:
        Rising numbers of steps, at most `steps`.
    """
    # In whole percent, since 0.57 * 100 is not 57 in floating point.
    percent, period = 0, 22
    found: set[int] = set()
    while (percent := percent + period) <= 100:
        found.add(-(-percent * steps // 100))
        period = max(period - 3, 6)
    return sorted(found)

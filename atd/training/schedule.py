"""How many steps, the one-cycle learning rate as a function of the step, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["Length", "attack_steps", "one_cycle", "set_learning_rate", "update_average"]

_LEAST_BETWEEN = 20
"""Steps between two validations, at least, where a small set is passed through many times."""
_VALIDATIONS = 8
"""About how many there are then: each costs as much as a few steps."""


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        steps: Its steps in all.
        between: Steps from one validation to the next: an epoch, or several short ones.
        asked: The steps of the epochs asked for, which may be fewer; a single epoch with
            `min_steps` asks for steps.
    """

    steps: int
    between: int
    asked: int

    @classmethod
    def of(cls, epochs: int, steps_per_epoch: int, min_steps: int) -> Length:
        """Counts steps: few images are passed through more often than the epochs say.

        Args:
            epochs: Passes over the training images that are asked for.
            steps_per_epoch: Steps of each.
            min_steps: Steps to be taken at least; 0 counts epochs only.
        """
        asked = epochs * steps_per_epoch
        if min_steps == 0:
            return cls(asked, steps_per_epoch, asked)
        least = max(_LEAST_BETWEEN, min_steps // _VALIDATIONS)
        between = -(-least // steps_per_epoch) * steps_per_epoch
        steps = -(-max(asked, min_steps) // between) * between
        return cls(steps, between, steps if epochs == 1 else asked)

    def __str__(self) -> str:
        if self.steps == self.asked:
            return f"{self.steps} steps"
        return f"{self.steps} steps instead of {self.asked}, for the images are few"


def one_cycle(step: int, total: int, peak: float, warmup: float) -> float:
    """The learning rate of a step (one-cycle with cosine halves, Smith & Topin 2018).

    Rises from peak / 25 in the first `warmup` share of the steps, then falls to
    peak / 250,000: the values of `torch.optim.lr_scheduler.OneCycleLR`, without its state.

    Args:
        step: Step, counted from 0.
        total: Steps in all.
        peak: Highest learning rate.
        warmup: Share of the steps in which it rises, in (0, 1).

    Returns:
        The learning rate.
    """
    turn, end = warmup * total - 1, total - 1
    first, last = peak / 25, peak / 25 / 1e4
    if step <= turn:
        return _cosine(first, peak, step / turn if turn > 0 else 1.0)
    return _cosine(peak, last, (step - turn) / (end - turn))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def attack_steps(step: int, total: int, most: int, schedule: str) -> int:
    """How many steps the training attack takes.

    Args:
        step: Step of the training, counted from 0.
        total: Its steps in all.
        most: Attack steps at the end.
        schedule: `constant`, or `rising` in equal shares of the training from 1 to `most`.

    Returns:
        1 to `most`.
    """
    if schedule == "constant":
        return most
    return -(-most * (step + 1) // total)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Moves averaged weights towards the model's; buffers are copied.

    The decay warms up as min(decay, (1 + step) / (10 + step)), so that the average forgets the
    initial weights (Gowal et al. 2020, as used by HAT).

    Args:
        average: A copy of the model, changed in place.
        model: The trained model.
        decay: Final decay, below 1.
        step: Step, counted from 0.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
    _copy(average.buffers(), model.buffers())


def _copy(targets: Iterable[torch.Tensor], sources: Iterable[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)

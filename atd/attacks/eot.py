"""Expectation over transformation: an objective for models that draw random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from atd.attacks.objective import Objective

__all__ = ["expectation"]


def expectation(objective: Objective, draws: int) -> Objective:
    """The mean of repeated evaluations, and so its gradient (Athalye et al., 2018).

    A single evaluation of a randomised model gives a noisy gradient, against which an attack
    looks weaker than it is (arXiv:1802.00420, section 3.2).

    Args:
        objective: Maps inputs (N, ...) to values (N,), differently at each call.
        draws: Evaluations per call.

    Returns:
        An objective that costs `draws` evaluations.

    Raises:
        ValueError: `draws` is not positive.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")

    def mean(images: Tensor) -> Tensor:
        return torch.stack([objective(images) for _ in range(draws)]).mean(0)

    return mean

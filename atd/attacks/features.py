"""Attack on features: move an input to where the model sees another one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atd.attacks.objective import Objective

__all__ = ["feature_distance", "nearest_targets"]


def feature_distance(features: Callable[[Tensor], Tensor], targets: Tensor) -> Objective:
    """An objective that grows as features approach those of another input.

    It reaches a detector through its features where the score itself gives no useful gradient
    (Sabour et al., 2016, arXiv:1511.05122, eq. 1).

    Args:
        features: Maps inputs (N, ...) to features (N, F), differentiably.
        targets: Features (N, F) that each sample is to reach.

    Returns:
        An objective with values (N,), minus the squared Euclidean distance.
    """

    def closeness(images: Tensor) -> Tensor:
        return -(features(images) - targets).square().sum(1)

    return closeness


def nearest_targets(features: Tensor, candidates: Tensor) -> Tensor:
    """For each of the features (N, F) the nearest of the candidates (M, F), as (N, F)."""
    # The faster mode multiplies matrices for large sets only, so rounding would depend on N.
    distances = torch.cdist(features, candidates, compute_mode="donot_use_mm_for_euclid_dist")
    return candidates[distances.argmin(1)]

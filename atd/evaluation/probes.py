"""The attacks behind the checks: weak, larger and unbounded ones, each on a few images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from atd.evaluation import checks as judge
from atd.evaluation.metrics import Array, auroc
from atd.evaluation.scoring import Images, Method
from atd.evaluation.settings import Settings, Tier

__all__ = ["probe_checks"]

_IMAGES = 64
_STEPS = 50


def probe_checks(
    detector: nn.Module, inside: Images, outside: Sequence[Images], settings: Settings
) -> dict[str, judge.Check]:
    """Runs the checks that need attacks of their own, on about 64 images of each side.

    Args:
        detector: The judged detector.
        inside: ID test images.
        outside: OOD test sets; each gives its share of the images.
        settings: The evaluation's settings; probes take one restart and at most 50 steps.

    Returns:
        The checks by name.
    """

    def probe(epsilon: float, method: Method = "pgd", steps: int = _STEPS) -> float:
        tier = Tier("probe", steps, restarts=1)
        return _attacked_auroc(
            detector, inside, outside, replace(settings, tier=tier, epsilon=epsilon), method
        )

    radius, steps = settings.epsilon, min(settings.tier.steps, _STEPS)
    ladder = {0.0: probe(0.0, "none")}
    ladder |= {factor * radius: probe(factor * radius, steps=steps) for factor in (0.5, 1, 2, 4)}
    main, weaker = ladder[radius], judge.weaker_attack_is_weaker
    return {
        "fgsm_weaker": weaker("FGSM", probe(radius, "fgsm"), main),
        "noise_weaker": weaker("random noise", probe(radius, "noise"), main),
        "epsilon_monotone": judge.epsilon_monotone(ladder),
        "unbounded_attack_wins": judge.unbounded_attack_wins(probe(1.0)),
    }


def _attacked_auroc(
    detector: nn.Module,
    inside: Images,
    outside: Sequence[Images],
    settings: Settings,
    method: Method,
) -> float:
    def attacked(images: Images, count: int, direction: Literal[1, -1]) -> Array:
        return settings.score(detector, _few(images, count), direction, method).attacked

    each = -(-_IMAGES // len(outside))
    ood_scores = np.concatenate([attacked(images, each, -1) for images in outside])
    return auroc(attacked(inside, _IMAGES, 1), ood_scores)


@dataclass(frozen=True)
class _Subset:
    """Some images of a set, in its order."""

    name: str
    images: Images
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Images (B, C, H, W) as uint8 on the CPU."""
        return self.images.fetch(self.positions[torch.as_tensor(indices)])


def _few(images: Images, count: int) -> _Subset:
    """Evenly spaced images, so that sets sorted by class are represented."""
    positions = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    return _Subset(f"check {images.name}", images, positions)

"""Attacks of a segmentation: what DAAIN's paper names, by this package's PGD.

Iterative FGSM is PGD from the image itself. Target classes are those of the paper, `person` and
`road`, as far as there is such a thing here: a digit everywhere, background everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from atd.attacks import fgsm, pgd
from atd.attacks.objective import Objective
from atd.detectors.base import Detector
from benchmarks.segmentation.scenes import CLASSES, Scenes

__all__ = ["Attack", "attacks", "evading"]

_CHUNK = 32


@dataclass(frozen=True)
class Attack:
    """What all attacks share: the network, the radius in L-infinity, the steps."""

    network: nn.Module
    epsilon: float
    steps: int

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (N,), averaged over an image's known pixels."""
        each = functional.cross_entropy(
            self.network(images), labels, reduction="none", ignore_index=-1
        )
        return each.mean((1, 2))

    def untargeted(self, scenes: Scenes) -> Tensor:
        """Iterative FGSM away from the labels."""
        return self._each(scenes, lambda labels: lambda images: self.loss(images, labels))

    def targeted(self, scenes: Scenes, label: int) -> Tensor:
        """Iterative FGSM towards one class everywhere."""
        return self._each(scenes, lambda labels: self._towards(torch.full_like(labels, label)))

    def single_step(self, scenes: Scenes, label: int) -> Tensor:
        """FGSM towards one class everywhere."""
        parts = zip(scenes.images.split(_CHUNK), scenes.labels.split(_CHUNK), strict=True)
        return torch.cat(
            [
                fgsm(
                    self._towards(torch.full_like(labels, label)), images, epsilon=self.epsilon
                ).images
                for images, labels in parts
            ]
        )

    def universal(self, known: Scenes, scenes: Scenes) -> Tensor:
        """One change for all images, found on others."""

        def objective(change: Tensor) -> Tensor:
            return self.loss((known.images + change).clamp(0, 1), known.labels).mean()[None]

        nothing = torch.zeros_like(known.images[:1])
        change = pgd(objective, nothing, epsilon=self.epsilon, steps=self.steps, bounds=None).images
        return (scenes.images + change).clamp(0, 1)

    def _towards(self, target: Tensor) -> Objective:
        return lambda images: -self.loss(images, target)

    def _each(self, scenes: Scenes, objective: Callable[[Tensor], Objective]) -> Tensor:
        parts = zip(scenes.images.split(_CHUNK), scenes.labels.split(_CHUNK), strict=True)
        return torch.cat(
            [
                pgd(objective(labels), images, epsilon=self.epsilon, steps=self.steps).images
                for images, labels in parts
            ]
        )


def attacks(attack: Attack, known: Scenes, scenes: Scenes) -> dict[str, Tensor]:
    """Every attack of the paper on the scenes; the universal one is found on others."""
    return {
        "iterative FGSM, untargeted": attack.untargeted(scenes),
        "iterative FGSM, all digit": attack.targeted(scenes, CLASSES.index("digit")),
        "single FGSM, all background": attack.single_step(scenes, 0),
        "universal perturbation": attack.universal(known, scenes),
    }


def evading(attack: Attack, detector: Detector, scenes: Scenes, inside: Tensor) -> Tensor:
    """The untargeted attack that also keeps a detector's score where ID images have it.

    Args:
        attack: The network, radius and steps.
        detector: Whose score is kept low: the attacked one's, or a twin's.
        scenes: What is attacked.
        inside: Its scores of ID images, which give the level and the scale.
    """
    level, scale = float(inside.median()), float(inside.std())

    def objective(labels: Tensor) -> Objective:
        def value(images: Tensor) -> Tensor:
            above = (detector.surrogate(images) - level) / scale
            return attack.loss(images, labels) - above.clamp_min(0)

        return value

    return attack._each(scenes, objective)

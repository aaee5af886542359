"""All sets of an evaluation scored: clean first, then attacked no further than can matter.

Why stopping early changes no metric: attacks only raise ID scores and only lower OOD scores.
Once an ID image's score is above every *clean* OOD score (and above the threshold), it is above
every attacked OOD score too, so it loses each comparison that any metric makes, however much
higher it may still rise; likewise an OOD image below every clean ID score. AUROC, AUPR, FPR95,
detection error and the shares at the threshold depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from atd.evaluation.metrics import Array, threshold_at
from atd.evaluation.scoring import Images, ScoredSet
from atd.evaluation.settings import Settings

__all__ = ["ImageSets", "Rounds", "Tick", "attack_rounds", "targets"]

Tick = Callable[[int], None]

_TARGETS = 32


class ImageSets(Protocol):
    """The image sets that are scored."""

    @property
    def id_val(self) -> Images:
        """Held-out ID images; they set the threshold."""

    @property
    def id_test(self) -> Images:
        """ID test images."""

    @property
    def ood_test(self) -> Mapping[str, Images]:
        """OOD test sets by name."""


@dataclass(frozen=True)
class Rounds:
    """Scores of one detector on all sets.

    Attributes:
        id_test: ID test images.
        ood: Each OOD test set.
        id_val: Clean scores (N,) of the held-out ID images.
    """

    id_test: ScoredSet
    ood: dict[str, ScoredSet]
    id_val: Array


def attack_rounds(
    detector: nn.Module,
    sets: ImageSets,
    settings: Settings,
    sources: Sequence[nn.Module],
    tick: Tick,
    names: Sequence[str] | None = None,
) -> Rounds:
    """Scores every set clean, then attacked.

    Args:
        detector: The detector.
        sets: The image sets.
        settings: Attack and execution.
        sources: Other detectors, for the transfer attack.
        tick: Called with the passes through the detector that are done.
        names: OOD sets to score; None means all.

    Returns:
        The scores.

    Raises:
        UserError: As `atd.evaluation.scoring.attack_scores`.
    """
    ood_sets = {name: sets.ood_test[name] for name in (names or sets.ood_test)}
    still = settings.attack(())
    id_val = settings.score(detector, sets.id_val, 1, still).clean
    inside = settings.score(detector, sets.id_test, 1, still).clean
    outside = {
        name: settings.score(detector, images, -1, still).clean for name, images in ood_sets.items()
    }
    threshold = threshold_at(id_val)
    highest = max(threshold, *(float(scores.max()) for scores in outside.values()))
    lowest = min(threshold, float(inside.min()))
    aims = targets(detector, sets.id_test, ood_sets, settings)
    raising = settings.attack(stop=highest, targets=aims[1], sources=tuple(sources))
    lowering = settings.attack(stop=lowest, targets=aims[-1], sources=tuple(sources))

    id_test = settings.score(detector, sets.id_test, 1, raising, tick)
    ood = {
        name: settings.score(detector, images, -1, lowering, tick)
        for name, images in ood_sets.items()
    }
    return Rounds(id_test, ood, id_val)


def targets(
    detector: nn.Module, inside: Images, outside: Mapping[str, Images], settings: Settings
) -> dict[int, Tensor]:
    """What the feature-space attack aims at: the other side's most typical images.

    Returns:
        Images (T, C, H, W), float in [0, 1]: those that ID images are moved towards under +1,
        those that OOD images are moved towards under -1.
    """
    still = settings.attack(())
    id_scores = settings.score(detector, inside, 1, still).clean
    ood_scores = {
        name: -settings.score(detector, images, -1, still).clean for name, images in outside.items()
    }
    return {1: _extreme(outside, ood_scores), -1: _extreme({"id": inside}, {"id": id_scores})}


def _extreme(sets: Mapping[str, Images], scores: Mapping[str, Array]) -> Tensor:
    """The images (T, C, H, W) with the smallest scores, as many from every set."""
    each = -(-_TARGETS // len(sets))
    chosen = [
        images.fetch(torch.from_numpy(np.sort(np.argsort(scores[name], kind="stable")[:each])))
        for name, images in sets.items()
    ]
    return torch.cat(chosen).float() / 255

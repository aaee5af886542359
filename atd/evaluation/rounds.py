"""All sets of an evaluation scored: clean first, then attacked no further than can matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from atd.detectors.base import Detector
from atd.evaluation.jobs import Images, Job, ScoredSet
from atd.evaluation.settings import Settings
from atd.evaluation.stops import stops
from atd.metrics import Array, threshold_at

__all__ = ["ACCEPTED", "ImageSets", "Rounds", "Tick", "attack_rounds"]

Tick = Callable[[int], None]

ACCEPTED = 0.95
"""Share of clean ID images that a threshold lets pass."""

_TARGETS = 32


class ImageSets(Protocol):
    """The image sets that are scored."""

    @property
    def id_val(self) -> Images | None:
        """Held-out ID images, which set the threshold; None where there are none."""

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
        id_val: Clean scores (N,) of the held-out ID images; empty where there are none.
        threshold: The score above which an image is flagged.
    """

    id_test: ScoredSet
    ood: dict[str, ScoredSet]
    id_val: Array
    threshold: float


def attack_rounds(
    detector: Detector,
    sets: ImageSets,
    settings: Settings,
    sources: Sequence[Detector],
    tick: Tick,
    threshold: float | None = None,
    look: Callable[[Array, Mapping[str, Array]], None] | None = None,
) -> Rounds:
    """Scores every set clean, then attacked.

    Args:
        detector: The detector.
        sets: The image sets.
        settings: Attack and execution.
        sources: Other detectors, for the transfer attack.
        tick: Called with the passes through the detector that are done.
        threshold: The detector's own threshold; None takes the score that accepts 95 % of the
            held-out ID images or, without them, of the ID test images.
        look: Called with the clean scores of the ID test images and of each OOD set, before the
            attacks; what it raises ends the evaluation.

    Returns:
        The scores.

    Raises:
        UserError: As `atd.evaluation.scoring.attack_sets`.
    """
    kinds = {member.kind for member in settings.tier.members}
    held = [] if sets.id_val is None else [sets.id_val]
    inside, *found = _clean(detector, [sets.id_test, *held, *sets.ood_test.values()], settings)
    id_val, outside = np.concatenate([np.zeros(0), *found[: len(held)]]), found[len(held) :]
    if look is not None:
        look(inside, dict(zip(sets.ood_test, outside, strict=True)))
    if threshold is None:
        threshold = threshold_at(id_val if held else inside, ACCEPTED)
    above, below = stops(inside, np.concatenate(outside), threshold)
    aims: dict[int, Tensor] = {}
    if "features" in kinds:
        ood_scores = dict(zip(sets.ood_test, outside, strict=True))
        aims = _aims(sets.id_test, sets.ood_test, inside, ood_scores)
    used = tuple(sources) if "transfer" in kinds else ()
    raising = settings.attack(stop=above, targets=aims.get(1), sources=used)
    lowering = settings.attack(stop=below, targets=aims.get(-1), sources=used)
    lowered = [Job(images, -1, lowering) for images in sets.ood_test.values()]
    jobs = [Job(sets.id_test, 1, raising), *lowered]
    id_test, *attacked = settings.score_sets(detector, jobs, tick)
    return Rounds(id_test, dict(zip(sets.ood_test, attacked, strict=True)), id_val, threshold)


def _clean(detector: Detector, sets: Sequence[Images], settings: Settings) -> list[Array]:
    """Scores of each set's unchanged images."""
    jobs = [Job(images, 1, settings.attack(())) for images in sets]
    return [scored.clean for scored in settings.score_sets(detector, jobs)]


def _aims(
    inside: Images,
    outside: Mapping[str, Images],
    id_scores: Array,
    ood_scores: Mapping[str, Array],
) -> dict[int, Tensor]:
    """What the feature-space attack aims at: the other side's most typical images.

    Returns:
        Images (T, C, H, W), float in [0, 1]: those that ID images are moved towards under +1,
        those that OOD images are moved towards under -1.
    """
    most = {name: -scores for name, scores in ood_scores.items()}
    return {1: _extreme(outside, most), -1: _extreme({"id": inside}, {"id": id_scores})}


def _extreme(sets: Mapping[str, Images], scores: Mapping[str, Array]) -> Tensor:
    """The images (T, C, H, W) with the smallest scores, as many from every set."""
    each = -(-_TARGETS // len(sets))
    chosen = [
        images.fetch(torch.from_numpy(np.sort(np.argsort(scores[name], kind="stable")[:each])))
        for name, images in sets.items()
    ]
    return torch.cat(chosen).float() / 255

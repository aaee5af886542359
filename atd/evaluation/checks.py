"""Signs that a robustness number is too good to be true (Carlini et al. 2019, section 5).

Each function judges plain numbers and returns a `Check`; the numbers come from the main attack,
from `atd.evaluation.probes` (attacks on a few images) and from `atd.evaluation.consistency`.

Where an attack is judged, each condition is: with both sides attacked, one side alone may drive the
AUROC to 0 and hide what is masked on the other.

What can only fail through a fault of our own attacks (that they keep the best iterate, that more
steps and starts never hurt) is no check but a test. Of those that no planted fraud has failed yet
(`docs/frauds.md`), `noise_weaker` and `fgsm_weaker` stay because they cost four passes and are the
signs of masked gradients that readers ask for first (Athalye et al., 2018, section 3.1), and
`saturating_loss_weaker` because it is the loss of the published attacks: it shows that ours, on the
raw score, is not the weaker one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atd.metrics import Array

__all__ = [
    "Check",
    "TRUSTED",
    "agrees",
    "gradients_present",
    "gradients_true",
    "gradients_useful",
    "ladder_falls",
    "scores_distinct",
    "scores_finite",
    "strong_enough",
    "unbounded_attack_wins",
    "verdict",
    "weaker_attack_is_weaker",
]

TRUSTED = "robustness numbers can be trusted"

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Aurocs = Mapping[str, float]
"""AUROC by condition: `both`, `in` and `out`."""

_ATTACKED = {"both": "both sides attacked", "in": "ID attacked", "out": "OOD attacked"}

_AUROC_TOLERANCE = 0.01
_ZERO_GRADIENT_LIMIT = 0.01
_UNBOUNDED_LIMIT = 0.05
_OVERSTATED_LIMIT = 0.1
_TIED_LIMIT = 0.05
_SPREAD_TOLERANCE = 1e-3
_GRADIENT_LIMIT = 0.1
_USELESS_LIMIT = 0.2


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        passed: Whether nothing suspicious was found.
        value: The number, or [x, AUROC] pairs, behind it.
        detail: What was looked at and what a failure would mean, in plain words.
    """

    passed: bool
    value: float | list[list[float]]
    detail: str


def scores_finite(broken: Sequence[Flags]) -> Check:
    """No image, clean or perturbed, got a score that is not a finite number.

    Args:
        broken: Per set, whether each image did.
    """
    share = float(np.concatenate(broken).mean())
    detail = (
        "Share of images that made the detector return NaN or infinity at least once, unchanged "
        "or perturbed. Any at all would mean that the detector breaks on some inputs; a break "
        "under attack hides what the attack would have found."
    )
    return Check(passed=share == 0, value=share, detail=detail)


def gradients_present(zero_gradient: Sequence[Flags]) -> Check:
    """Hardly any image has an input gradient that is exactly zero.

    Args:
        zero_gradient: Per set, a bool per image.
    """
    share = float(np.concatenate(zero_gradient).mean())
    detail = (
        "Share of images where the score's gradient is exactly zero (at most "
        f"{_ZERO_GRADIENT_LIMIT:.0%}). More would mean masked gradients: the attack has nothing to "
        "follow, so the detector only looks robust."
    )
    return Check(passed=share <= _ZERO_GRADIENT_LIMIT, value=share, detail=detail)


def weaker_attack_is_weaker(name: str, weaker: Aurocs, main: Aurocs) -> Check:
    """An attack that should find less leaves at least as much AUROC as the main one.

    Args:
        name: The attack, as read in the report.
        weaker: AUROC on a subset under it, for each condition.
        main: AUROC on the same subset under the main attack.
    """
    value, where = min((weaker[condition] - main[condition], condition) for condition in main)
    detail = (
        f"AUROC under {name} minus AUROC under APGD on a subset, where that is lowest "
        f"({_ATTACKED[where]}). Clearly below 0 would mean that {name} finds what the gradient "
        "misses: gradient attacks are stuck and the robust numbers are too high."
    )
    return Check(passed=value >= -_AUROC_TOLERANCE, value=value, detail=detail)


def strong_enough(used: str, found: Aurocs, stronger: str, reached: Aurocs) -> Check:
    """The attack of the tier finds nearly what a stronger one finds.

    Args:
        used: The tier's first attack.
        found: AUROC on a subset under it, for each condition.
        stronger: A stronger attack.
        reached: AUROC on the same subset under that one.
    """
    value, where = max((found[condition] - reached[condition], condition) for condition in found)
    detail = (
        f"AUROC under {used} minus AUROC under {stronger} on a subset, where that is highest "
        f"({_ATTACKED[where]}; at most {_OVERSTATED_LIMIT}; plain PGD misses a part of that on "
        "sound detectors too). More would mean that this tier's numbers are far too high: use a "
        "stronger one."
    )
    return Check(passed=value <= _OVERSTATED_LIMIT, value=value, detail=detail)


def ladder_falls(what: str, ladder: Mapping[float, Aurocs], failure: str) -> Check:
    """A stronger attack never helps the defender.

    Args:
        what: Name of the strength, e.g. `epsilon`.
        ladder: AUROC on a subset for each strength, for some or all conditions.
        failure: What it would mean if the AUROC rose.
    """

    def rungs(condition: str) -> list[list[float]]:
        strengths = sorted(ladder.items())
        return [[float(x), found[condition]] for x, found in strengths if condition in found]

    def rise(condition: str) -> float:
        pairs = itertools.pairwise(rungs(condition))
        return max((later[1] - earlier[1] for earlier, later in pairs), default=0.0)

    worst = max(_ATTACKED, key=rise)
    detail = f"[{what}, AUROC] on a subset, {_ATTACKED[worst]}. {failure}"
    return Check(passed=rise(worst) <= _AUROC_TOLERANCE, value=rungs(worst), detail=detail)


def unbounded_attack_wins(auroc: float) -> Check:
    """An attacker who may turn any image into any other defeats every detector.

    Args:
        auroc: AUROC on a subset, both sides attacked with epsilon = 1.
    """
    detail = (
        "AUROC on a subset when the attacker may change pixels without limit (at most "
        f"{_UNBOUNDED_LIMIT}). Anything clearly above 0 would mean that the attack does not "
        "optimise the score, whatever the radius."
    )
    return Check(passed=auroc <= _UNBOUNDED_LIMIT, value=auroc, detail=detail)


def agrees(what: str, difference: float, failure: str) -> Check:
    """Two ways to score the same images agree.

    Args:
        what: The two ways.
        difference: Largest difference of scores, in standard deviations of the scores.
        failure: What a failure would mean.
    """
    detail = (
        f"Largest difference of scores {what}, in standard deviations of the scores (at most "
        f"{_SPREAD_TOLERANCE}). {failure}"
    )
    return Check(passed=difference <= _SPREAD_TOLERANCE, value=difference, detail=detail)


def scores_distinct(scores: Array, images: int) -> Check:
    """Different images hardly ever get exactly the same score.

    Args:
        scores: Clean scores.
        images: How many of their images differ; copies have equal scores by right.
    """
    tied = max(0.0, 1.0 - len(np.unique(scores)) / images)
    detail = (
        "Share of different images whose score equals another's to the last bit (at most "
        f"{_TIED_LIMIT:.0%}). More would mean scores that are rounded, counted, or probabilities "
        "saturated at 0 and 1: ties hide what an attack moves, and ranks become arbitrary."
    )
    return Check(passed=tied <= _TIED_LIMIT, value=tied, detail=detail)


def gradients_true(wrong: float) -> Check:
    """The gradient that the attack follows is the gradient of the score.

    Args:
        wrong: Share of directions in which they differ by more than a tenth, on the side where
            it is larger.
    """
    detail = (
        "Share of images and directions in which the score changes by more than a tenth more or "
        f"less than its gradient says, ID or OOD (at most {_GRADIENT_LIMIT:.0%}). More would mean "
        "that a part of the detector passes no gradient, a wrong one, or moves in jumps: the "
        "attack is led astray."
    )
    return Check(passed=wrong <= _GRADIENT_LIMIT, value=wrong, detail=detail)


def gradients_useful(useless: float) -> Check:
    """A step along the gradient does more harm than a step in a random direction.

    Args:
        useless: Share of images on which it does not, on the side where it is larger.
    """
    detail = (
        "Share of images on which a step of a tenth of epsilon along the gradient's sign does "
        f"less harm than one of random signs, ID or OOD (at most {_USELESS_LIMIT:.0%}). More "
        "would mean shattered gradients: true at a point, useless a little way off."
    )
    return Check(passed=useless <= _USELESS_LIMIT, value=useless, detail=detail)


def verdict(checks: Mapping[str, Check]) -> str:
    """One line: the numbers can be trusted, or which checks speak against it."""
    failed = [name for name, check in checks.items() if not check.passed]
    return TRUSTED if not failed else "suspicious: " + ", ".join(failed)

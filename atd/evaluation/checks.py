"""Signs that a robustness number is too good to be true (Carlini et al. 2019, section 5).

Each function judges plain numbers and returns a `Check`; the attacks that produce the numbers
run in `atd.evaluation.protocol`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from atd.evaluation.metrics import Array

__all__ = [
    "Check",
    "TRUSTED",
    "attack_never_weaker",
    "epsilon_monotone",
    "gradients_present",
    "scores_finite",
    "unbounded_attack_wins",
    "verdict",
    "weaker_attack_is_weaker",
]

TRUSTED = "robustness numbers can be trusted"

_TOLERANCE = 0.01
_ZERO_GRADIENT_LIMIT = 0.01
_UNBOUNDED_LIMIT = 0.05


class Check(TypedDict):
    """The outcome of one check.

    Attributes:
        passed: Whether nothing suspicious was found.
        value: The number, or numbers, behind it.
        detail: What was looked at and what a failure would mean, in plain words.
    """

    passed: bool
    value: float | list[list[float]]
    detail: str


def scores_finite(scores: Sequence[Array]) -> Check:
    """Every clean and attacked score is a finite number."""
    bad = int(sum((~np.isfinite(values)).sum() for values in scores))
    detail = (
        "Scores that are NaN or infinite. Any at all would mean that the detector breaks on some "
        "images and that ranks, hence the AUROC, are meaningless."
    )
    return Check(passed=bad == 0, value=float(bad), detail=detail)


def attack_never_weaker(gains: Sequence[Array]) -> Check:
    """No attacked image scores better for the defender than the unchanged one.

    Args:
        gains: Per set, what the attacker gained on each image (>= 0 for a working attack).
    """
    worse = int(sum((gain < 0).sum() for gain in gains))
    detail = (
        "Images on which the attack did worse than no attack. Any at all would mean that the "
        "attack keeps the wrong iterate and that the robust numbers are too high."
    )
    return Check(passed=worse == 0, value=float(worse), detail=detail)


def gradients_present(zero_gradient: Sequence[np.ndarray[Any, np.dtype[np.bool_]]]) -> Check:
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


def weaker_attack_is_weaker(name: str, weaker: float, main: float) -> Check:
    """A weak attack leaves at least as much AUROC as the main one.

    Args:
        name: The weak attack, as read in the report.
        weaker: AUROC on a subset under it, both sides attacked.
        main: AUROC on the same subset under the main attack.
    """
    detail = (
        f"AUROC under {name} minus AUROC under PGD on a subset, both sides attacked. Clearly "
        f"below 0 would mean that {name} finds what PGD misses: PGD is stuck and the robust "
        "numbers are too high."
    )
    return Check(passed=weaker >= main - _TOLERANCE, value=weaker - main, detail=detail)


def epsilon_monotone(ladder: Mapping[float, float]) -> Check:
    """A larger attack radius never helps the defender.

    Args:
        ladder: AUROC on a subset, both sides attacked, for each radius.
    """
    rungs = [list(pair) for pair in sorted(ladder.items())]
    rises = [later[1] - earlier[1] for earlier, later in itertools.pairwise(rungs)]
    detail = (
        "[epsilon, AUROC] on a subset, both sides attacked. A larger ball contains the smaller "
        "one, so an AUROC that rises would mean that the optimisation fails at larger radii."
    )
    return Check(passed=max(rises, default=0.0) <= _TOLERANCE, value=rungs, detail=detail)


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


def verdict(checks: Mapping[str, Check]) -> str:
    """One line: the numbers can be trusted, or which checks speak against it."""
    failed = [name for name, check in checks.items() if not check["passed"]]
    return TRUSTED if not failed else "suspicious: " + ", ".join(failed)

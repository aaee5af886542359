"""The threshold that a share asks for, and what is known of it, in numbers and in words."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from atd.deciding.order import CalibrateOrder
from atd.metrics import Array
from atd.order_statistics import LEVEL, Limit, limit_below, share_interval

__all__ = ["Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """A threshold and the rule that it follows.

    Attributes:
        threshold: A score above it is flagged.
        limit: What the sample says of it; of negated scores where OOD images are to be caught.
        caught: Whether it follows from OOD images.
        attack: The attack under which the share holds; empty for clean images.
    """

    threshold: float
    limit: Limit
    caught: bool
    attack: str = ""

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Interval of the threshold that an endless sample would give; None is no bound."""
        low, high = self.limit.bounds
        if not self.caught:
            return low, high
        return None if high is None else -high, None if low is None else -low

    @property
    def note(self) -> str:
        """How the threshold was set, in a few words."""
        verb, kind = ("catches", "OOD") if self.caught else ("accepts", "ID")
        attack = f" under attack ({self.attack})" if self.attack else ""
        count = f"{self.limit.count:,}"
        return (
            f"{verb} {self.limit.share:.4g} of {kind} images like the {count} of the calibration"
            f"{attack}; set by atd.calibrate"
        )

    @property
    def record(self) -> dict[str, Any]:
        """The same in numbers, for `config.json`."""
        return {
            "rule": "catch" if self.caught else "accept",
            "share": self.limit.share,
            "images": self.limit.count,
            "attack": self.attack,
            "confidence": LEVEL,
            "share_interval": list(self.limit.interval),
            "threshold_interval": list(self.bounds),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def lines(self) -> list[str]:
        """What a person should know of it."""
        limit, (low, high) = self.limit, self.limit.interval
        verb, kind = ("caught", "OOD") if self.caught else ("accepted", "ID")
        attack = f", attacked by {self.attack}" if self.attack else ""
        missed = f"{1 - limit.share:.3g}"
        chance = (
            f"missed with a chance of at most {missed}"
            if self.caught
            else (f"flagged with a chance of at most {missed}")
        )
        return [
            f"{limit.under:,} of {limit.count:,} {kind} images are {verb}{attack}; of others like "
            f"them {low:.2%} to {high:.2%} ({LEVEL:.0%} confidence, Clopper-Pearson)",
            f"one more image like them is {chance}, on average over calibrations",
            f"more images would move the threshold to between {_word(self.bounds[0], '-')} and "
            f"{_word(self.bounds[1], '')} ({LEVEL:.0%} confidence, order statistics)",
            f"an interval half as wide takes about {limit.count_for_half:,} images",
        ]


def choose(scores: Array, order: CalibrateOrder, attack: str) -> Choice:
    """The threshold that accepts, or catches, the share that was asked for.

    Args:
        scores: Scores (N,) of ID images, or of OOD images where they are to be caught; attacked
            where an attack is named.
        order: The rule and its share.
        attack: The attack in words; empty for clean images.

    Raises:
        UserError: There are too few images for the share.
    """
    caught = order.catch is not None
    limit = limit_below(-scores if caught else scores, order.share, order.rule)
    if not caught:
        return Choice(_float32(limit.value, math.inf), limit, caught, attack)
    # An image is flagged above the threshold, so it has to lie just below the score.
    return Choice(_float32(-limit.value, -math.inf, beyond=True), limit, caught, attack)


def share_words(scores: Array, threshold: float, kind: str) -> str:
    """What a threshold does to clean images: a share with its interval."""
    accepted = int((scores <= threshold).sum())
    hits, verb = (accepted, "accepted") if kind == "ID" else (len(scores) - accepted, "caught")
    low, high = share_interval(hits, len(scores))
    return (
        f"clean, {hits:,} of {len(scores):,} {kind} images are {verb}; of others like them "
        f"{low:.2%} to {high:.2%}"
    )


def _float32(value: float, towards: float, *, beyond: bool = False) -> float:
    """A score as scores are, in float32: never on the other side of it by rounding."""
    near = np.float32(value)
    short = near < value if towards > 0 else near > value
    return float(np.nextafter(near, np.float32(towards))) if short or beyond else float(near)


def _word(bound: float | None, sign: str) -> str:
    return f"{sign}infinity" if bound is None else f"{bound:.5g}"

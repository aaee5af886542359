"""What is changed in a rank's process before it trains, to bring a fault about."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["jumping_clock", "no_pictures", "slow"]


def no_pictures() -> None:
    """Leaves drawing out of the report: it takes longer than the training here."""
    from matplotlib.figure import Figure

    def savefig(self, target, **_):
        blank = bytes(64)  # the HTML report looks up a picture's size in its first bytes
        target.write(blank) if hasattr(target, "write") else Path(target).write_bytes(blank)

    Figure.savefig = savefig


def slow(rank: int, seconds: float) -> Callable[[int], None]:
    """One rank waits before every step."""

    def plant(here: int) -> None:
        from atd.training.adversarial_gan import AdversarialGan
        from atd.training.robust_pretraining import RobustPretraining

        if here != rank:
            return
        for task in (AdversarialGan, RobustPretraining):

            def step(self, *arguments, original=task.step):
                time.sleep(seconds)
                return original(self, *arguments)

            task.step = step

    return plant


def jumping_clock(seed: int) -> Callable[[int], None]:
    """The time of day jumps by up to a year, back and forth, at every look at it."""

    def plant(rank: int) -> None:
        draws = random.Random(seed + rank)
        true = time.time
        time.time = lambda: true() + draws.uniform(-1, 1) * 365 * 86400

    return plant

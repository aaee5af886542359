"""Auto-PGD from random starts (Croce & Hein, 2020, arXiv:2003.01690)."""

from __future__ import annotations

from atd.attacks.apgd import apgd
from atd.attacks.objective import Attacked
from atd.attacks.suite.base import Member, Situation

__all__ = ["ATTACK", "Apgd"]


class Apgd(Member):
    """APGD on the objective itself."""

    kind, title = "apgd", "APGD"
    restarted = True

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image."""
        return (self.steps + 1) * self.restarts, (self.steps + 1) * self.restarts

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        return apgd(
            given.objective, given.images, steps=self.steps, noise=given.noise, **given.search
        )


ATTACK = Apgd

"""Projected gradient descent from random starts (Madry et al., 2018, arXiv:1706.06083)."""

from __future__ import annotations

from atd.attacks.objective import Attacked
from atd.attacks.pgd import pgd
from atd.attacks.suite.base import Member, Situation

__all__ = ["ATTACK", "Pgd"]


class Pgd(Member):
    """PGD on the objective itself."""

    kind, title = "pgd", "PGD"
    restarted = True

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        return pgd(
            given.objective, given.images, steps=self.steps, noise=given.noise, **given.search
        )


ATTACK = Pgd

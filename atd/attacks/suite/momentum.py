"""Projected gradient descent with momentum (Dong et al., 2018, arXiv:1710.06081)."""

from __future__ import annotations

from atd.attacks.objective import Attacked
from atd.attacks.pgd import pgd
from atd.attacks.suite.base import Member, Situation

__all__ = ["ATTACK", "Momentum"]

_MOMENTUM = 0.9


class Momentum(Member):
    """PGD whose direction remembers earlier gradients."""

    kind, title = "momentum", "momentum-PGD"

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        return pgd(
            given.objective,
            given.images,
            steps=self.steps,
            noise=given.noise,
            momentum=_MOMENTUM,
            **given.search,
        )


ATTACK = Momentum

"""Random points of the ball, which any attack must beat."""

from __future__ import annotations

from atd.attacks.noise import random_noise
from atd.attacks.objective import Attacked
from atd.attacks.suite.base import Member, Situation

__all__ = ["ATTACK", "Noise"]


class Noise(Member):
    """Uniform noise, once for every restart."""

    kind, title = "noise", "random noise"
    stepped = False

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image."""
        return self.restarts, 0

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        return random_noise(given.objective, given.images, noise=given.noise, **given.ball)


ATTACK = Noise

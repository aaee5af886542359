"""Square: random search that sees scores only (Andriushchenko et al., 2020, arXiv:1912.00049)."""

from __future__ import annotations

from atd.attacks.objective import Attacked
from atd.attacks.square import square
from atd.attacks.starts import square_draws
from atd.attacks.suite.base import Means, Member, Situation

__all__ = ["ATTACK", "Square"]


class Square(Member):
    """Square with `steps` queries; L-infinity only."""

    kind, title = "square", "Square"
    sentence = "Square, which sees scores only,"
    stepped = False

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image."""
        return (self.steps + 1) * self.restarts, 0

    def lacks(self, means: Means) -> str:
        """Why the attack cannot be made with these means; empty where it can."""
        return "" if means.norm == "linf" else "it is defined for L-inf only"

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        draws, stripes = square_draws(
            given.images, given.indices, given.seed, given.restart, self.steps
        )
        return square(given.objective, given.images, draws=draws, stripes=stripes, **given.search)


ATTACK = Square

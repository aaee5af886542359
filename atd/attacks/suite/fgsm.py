"""One step along the gradient's sign (Goodfellow et al., 2015, arXiv:1412.6572)."""

from __future__ import annotations

from atd.attacks.objective import Attacked
from atd.attacks.pgd import fgsm
from atd.attacks.suite.base import Member, Situation

__all__ = ["ATTACK", "Fgsm"]


class Fgsm(Member):
    """FGSM from the image itself."""

    kind, title = "fgsm", "FGSM"
    stepped = False

    def run(self, given: Situation) -> Attacked:
        """Makes the attack."""
        return fgsm(given.objective, given.images, **given.ball)


ATTACK = Fgsm

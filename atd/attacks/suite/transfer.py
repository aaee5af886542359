"""PGD on other models, tried on this one (Papernot et al., 2016, arXiv:1605.07277)."""

from __future__ import annotations

from torch import Tensor

from atd.attacks.objective import Attacked, Objective
from atd.attacks.pgd import pgd
from atd.attacks.suite.base import Means, Member, Situation
from atd.attacks.transfer import transfer

__all__ = ["ATTACK", "Transfer"]


class Transfer(Member):
    """Images found on every other detector at hand."""

    kind, title = "transfer", "transferred PGD"
    sentence = "PGD on other detectors, transferred,"

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image, for one source."""
        return (self.steps + 2) * self.restarts, self.steps * self.restarts

    def lacks(self, means: Means) -> str:
        """Why the attack cannot be made with these means; empty where it can."""
        return "" if means.sources else "there is no other detector to transfer images from"

    def runs(self, means: Means) -> int:
        """How often the attack is made: once on every source."""
        return means.sources

    def run(self, given: Situation) -> Attacked:
        """Attacks one source and tries what was found."""
        noise = given.noise

        def attack(objective: Objective, images: Tensor) -> Attacked:
            return pgd(objective, images, steps=self.steps, noise=noise, **given.ball)

        source = given.sources[given.restart]
        return transfer(source, given.objective, given.images, attack=attack)


ATTACK = Transfer

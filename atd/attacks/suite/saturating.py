"""PGD on the binary cross-entropy that published attacks maximise; its gradient can vanish."""

from __future__ import annotations

from torch import Tensor, nn

from atd.attacks.objective import Attacked, Objective
from atd.attacks.pgd import pgd
from atd.attacks.suite.base import Member, Situation
from atd.attacks.transfer import transfer

__all__ = ["ATTACK", "Saturating"]


class Saturating(Member):
    """PGD through a saturating loss; the objective's own value counts."""

    kind, title = "saturating", "PGD on a saturating loss"
    sentence = "PGD on the binary cross-entropy, which saturates,"

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image."""
        return (self.steps + 2) * self.restarts, self.steps * self.restarts

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        search, noise = given.search, given.noise
        if given.enough is not None:
            search["enough"] = nn.functional.softplus(given.enough)

        def attack(objective: Objective, images: Tensor) -> Attacked:
            return pgd(objective, images, steps=self.steps, noise=noise, **search)

        loss = given.objective.then(nn.functional.softplus)
        return transfer(loss, given.objective, given.images, attack=attack)


ATTACK = Saturating

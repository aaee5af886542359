"""The attacks behind the checks and the curves: weak, strong and unbounded ones, on a few images.

They cost about as much as 800 attack steps on 128 images, whatever the size of the sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch

from atd.attacks.suite import Means, Member, member
from atd.detectors.base import Detector
from atd.evaluation.checks import (
    Check,
    ladder_falls,
    strong_enough,
    unbounded_attack_wins,
    weaker_attack_is_weaker,
)
from atd.evaluation.jobs import Job
from atd.evaluation.results import Curves, ImageCounts
from atd.evaluation.settings import Settings
from atd.evaluation.stops import stops
from atd.evaluation.subset import Sides
from atd.metrics import Array, auroc

__all__ = ["PROBE_PASSES", "Probes"]

_STEPS = 40
_QUERIES = 500
_LADDER = (1, 5, 10, 20)
_RADII = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
_RESTARTS = 3
PROBE_PASSES = 2 * (_STEPS * (len(_RADII) + _RESTARTS + 4) + sum(_LADDER)) + _QUERIES
"""Passes per image of all checks, roughly, for the progress bar."""


@dataclass
class Probes:
    """Attacks a few images of both sides in many ways.

    Attributes:
        detector: The judged detector.
        sides: The images.
        settings: The evaluation's settings; probes start once and take at most 40 steps, or
            as many as the evaluation's attack where that takes fewer.
        sources: Other detectors, for the transfer attack.
        tick: Called with the number of images attacked.
    """

    detector: Detector
    sides: Sides
    settings: Settings
    sources: Sequence[Detector] = ()
    tick: Callable[[int], None] | None = None
    _known: dict[str, tuple[Array, Array]] = field(default_factory=dict)

    def scores(self, member: Member | None, factor: float = 1.0) -> tuple[Array, Array]:
        """Scores of the ID and the OOD images under an attack.

        Args:
            member: The attack; None leaves the images as they are.
            factor: Radius as a multiple of the evaluation's epsilon.
        """
        key = f"{member} {factor}"
        if key not in self._known:
            members = () if member is None else (member,)
            transferred = member is not None and member.kind == "transfer"
            attack = self.settings.attack(
                members,
                epsilon=min(self._whole_box, factor * self.settings.epsilon),
                sources=tuple(self.sources) if transferred else (),
            )
            above, below = (None, None) if member is None else stops(*self.scores(None))
            jobs = [
                Job(self.sides.inside, 1, replace(attack, stop=above)),
                Job(self.sides.outside, -1, replace(attack, stop=below)),
            ]
            raised, lowered = self.settings.score_sets(self.detector, jobs, self.tick)
            self._known[key] = raised.attacked, lowered.attacked
        return self._known[key]

    def auroc(self, member: Member, factor: float = 1.0) -> float:
        """AUROC under an attack on both sides."""
        return self.aurocs(member, factor)["both"]

    def aurocs(self, member: Member | None, factor: float = 1.0) -> dict[str, float]:
        """AUROC under an attack, for each condition."""
        (inside, outside), (raised, lowered) = self.scores(None), self.scores(member, factor)
        return {
            "in": auroc(raised, outside),
            "out": auroc(inside, lowered),
            "both": auroc(raised, lowered),
        }

    @property
    def main(self) -> Member:
        """The attack that others are compared with: the strongest for its steps."""
        return member("apgd", min(self.settings.tier.steps, _STEPS))

    @property
    def strongest(self) -> Member:
        """The attack that finds most."""
        return member("apgd", self.main.steps, _RESTARTS)

    def checks(self) -> dict[str, Check]:
        """Every check that rests on an attack of its own."""
        main, steps = self.main, self.main.steps
        once, reached = self.aurocs(main), self.aurocs(self.strongest)

        def weaker(other: Member) -> Check:
            return weaker_attack_is_weaker(other.words(), self.aurocs(other), reached)

        found = {
            "noise_weaker": weaker(member("noise", 1, _RESTARTS)),
            "fgsm_weaker": weaker(member("fgsm")),
            "saturating_loss_weaker": weaker(member("saturating", steps)),
        }
        others = {
            "square_weaker": member("square", _QUERIES * steps // _STEPS + 1),
            "transfer_weaker": member("transfer", steps),
        }
        means = Means(self.settings.norm, sources=len(self.sources))
        found |= {name: weaker(other) for name, other in others.items() if not other.lacks(means)}
        return found | {
            "tier_strong_enough": strong_enough(
                str(self._first), self.aurocs(self._first), str(main), once
            ),
            "epsilon_monotone": ladder_falls(
                "epsilon",
                {
                    factor * self.settings.epsilon: self._judged(chosen, at)
                    for factor, (chosen, at) in self._radii()
                },
                "A larger ball contains the smaller one, so an AUROC that rises would mean that "
                "the optimisation fails at larger radii.",
            ),
            "unbounded_attack_wins": unbounded_attack_wins(
                self.auroc(main, self._whole_box / max(self.settings.epsilon, 1e-9))
            ),
        }

    def curves(self) -> Curves:
        """AUROC against radius and against steps, for each attacked side; all scores are known."""
        inside, outside = self.scores(None)
        return Curves(
            attack=str(self.main),
            images=ImageCounts(id=len(inside), ood=len(outside)),
            epsilon=[
                {"epsilon": factor * self.settings.epsilon} | self.aurocs(*at)
                for factor, at in self._radii()
            ],
            steps=[
                {"steps": count} | self.aurocs(chosen)
                for count, chosen in [(0, None), *self._steps().items()]
            ],
        )

    @property
    def _whole_box(self) -> float:
        return self.settings.whole_box(self.sides.inside.fetch(torch.arange(1)).shape[1:])

    @property
    def _first(self) -> Member:
        """APGD where the tier has it, else its first member, in the steps that probes may take."""
        kinds = [each.kind for each in self.settings.tier.members]
        return member("apgd" if "apgd" in kinds else kinds[0], self.main.steps)

    def _judged(self, member: Member | None, factor: float) -> dict[str, float]:
        """What must not rise: beyond epsilon an undefended side alone ends in ties near 0."""
        found = self.aurocs(member, factor)
        return found if factor <= 1 else {"both": found["both"]}

    def _steps(self) -> dict[int, Member]:
        counts = [*(count for count in _LADDER if count < self.main.steps), self.main.steps]
        return {count: member("apgd", count) for count in counts}

    def _radii(self) -> Iterable[tuple[float, tuple[Member | None, float]]]:
        yield 0.0, (None, 1.0)
        for factor in _RADII:
            yield factor, (self.main, factor)

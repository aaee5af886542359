"""How hard an evaluation attacks: members of the attack, and named sets of them.

Cost in passes through the detector per image and side, forward + backward:

| tier | members | forward | backward |
|---|---|---|---|
| smoke | PGD-10 | 11 | 10 |
| paper | PGD-100, as the ATD paper attacks | 101 | 100 |
| standard | PGD-100, APGD-100 from 3 starts | 404 | 403 |
| strong | PGD-100, APGD-100 from 5 starts, feature-space APGD-100, transfer of PGD-100 from \
every other detector at hand, Square with 1,000 queries | 1,812 | 806 |

The cost of a transfer is that of one source; where the detector has no features, or there is no
other detector, that member is left out.

APGD carries the stronger tiers because it finds more per step than PGD with more steps or more
starts; `python -m benchmarks.members` measures that on any detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atd.config import EvaluateConfig

__all__ = ["Kind", "Member", "Tier", "resolve_tier"]

Kind = Literal[
    "pgd", "momentum", "apgd", "features", "square", "transfer", "saturating", "fgsm", "noise"
]

_STEPPED = ("pgd", "momentum", "apgd", "features", "transfer")


@dataclass(frozen=True)
class Member:
    """One attack of a suite.

    Attributes:
        kind: Which attack.
        steps: Gradient steps, or queries of Square.
        restarts: Independent random starts; targets of `features`.
    """

    kind: Kind
    steps: int = 1
    restarts: int = 1

    def __str__(self) -> str:
        return f"{self.kind}-{self.steps}x{self.restarts}"

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image (`transfer`: for one source)."""
        match self.kind:
            case "square":
                return (self.steps + 1) * self.restarts, 0
            case "noise":
                return self.restarts, 0
            case "apgd":
                return (self.steps + 1) * self.restarts, (self.steps + 1) * self.restarts
            case "features":
                return (self.steps + 3) * self.restarts, (self.steps + 1) * self.restarts
            case "transfer" | "saturating":
                return (self.steps + 2) * self.restarts, self.steps * self.restarts
            case _:
                return (self.steps + 1) * self.restarts, self.steps * self.restarts


@dataclass(frozen=True)
class Tier:
    """A named set of members; the worst score over all of them counts."""

    name: str
    members: tuple[Member, ...]

    @property
    def steps(self) -> int:
        """Gradient steps of the first member."""
        return self.members[0].steps

    @property
    def restarts(self) -> int:
        """Restarts of the member that has most of them."""
        return max(member.restarts for member in self.members)

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image, without early exits."""
        forward, backward = zip(*(member.passes for member in self.members), strict=True)
        return sum(forward), sum(backward)


_TIERS = {
    "smoke": Tier("smoke", (Member("pgd", 10),)),
    "paper": Tier("paper", (Member("pgd", 100),)),
    "standard": Tier("standard", (Member("pgd", 100), Member("apgd", 100, 3))),
    "strong": Tier(
        "strong",
        (
            Member("pgd", 100),
            Member("apgd", 100, 5),
            Member("features", 100),
            Member("transfer", 100),
            Member("square", 1000),
        ),
    ),
}


def resolve_tier(config: EvaluateConfig) -> Tier:
    """The tier of a config; one whose numbers were overridden is called `custom`.

    `evaluate.steps` replaces the steps of every gradient attack, `evaluate.restarts` the starts
    of PGD and APGD; Square keeps its queries.
    """
    tier = _TIERS[config.tier]
    members = tuple(_overridden(member, config) for member in tier.members)
    return tier if members == tier.members else Tier("custom", members)


def _overridden(member: Member, config: EvaluateConfig) -> Member:
    steps = config.steps if config.steps and member.kind in _STEPPED else member.steps
    several = config.restarts and member.kind in ("pgd", "apgd")
    return Member(member.kind, steps, config.restarts if several else member.restarts)

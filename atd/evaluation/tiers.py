"""How hard an evaluation attacks: named sets of attacks.

Cost in passes through the detector per image and side, forward + backward:

| tier | members | forward | backward |
|---|---|---|---|
| smoke | PGD-10 | 11 | 10 |
| paper | PGD-100, as the ATD paper attacks | 101 | 100 |
| standard | PGD-100, APGD-100 from 3 starts | 404 | 403 |
| strong | PGD-100, APGD-100 from 5 starts, feature-space APGD-100, transfer of PGD-100 from \
every other detector at hand, Square with 1,000 queries | 1,812 | 806 |

The cost of a transfer is that of one source. A member that lacks what it needs (`Member.lacks`: no
features, no other detector, another norm) is left out, and the results name it.

APGD carries the stronger tiers because it finds more per step than PGD with more steps or more
starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from atd.attacks.suite import Member, parse
from atd.config import EvaluateConfig

__all__ = ["Tier", "resolve_tier", "weaker_than_standard"]


@dataclass(frozen=True)
class Tier:
    """A named set of attacks; the worst score over all of them counts."""

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
    "smoke": ("pgd-10x1",),
    "paper": ("pgd-100x1",),
    "standard": ("pgd-100x1", "apgd-100x3"),
    "strong": ("pgd-100x1", "apgd-100x5", "features-100x1", "transfer-100x1", "square-1000x1"),
}


def resolve_tier(config: EvaluateConfig) -> Tier:
    """The tier of a config; one whose numbers were overridden is called `custom`.

    `evaluate.steps` replaces the steps of every gradient attack, `evaluate.restarts` the starts
    of PGD and APGD; Square keeps its queries.
    """
    plain = tuple(map(parse, _TIERS[config.tier]))
    members = tuple(_overridden(member, config) for member in plain)
    return Tier(config.tier if members == plain else "custom", members)


def _overridden(member: Member, config: EvaluateConfig) -> Member:
    steps = config.steps if config.steps and member.stepped else member.steps
    restarts = config.restarts if config.restarts and member.restarted else member.restarts
    return replace(member, steps=steps, restarts=restarts)


def weaker_than_standard(members: tuple[str, ...]) -> bool:
    """Whether an attack, given by its members' names, lacks what the tier `standard` has."""
    kinds: dict[str, tuple[int, int]] = {}
    for name in members:
        try:
            found = parse(name)
        except KeyError:
            continue
        steps, restarts = kinds.get(found.kind, (0, 0))
        kinds[found.kind] = max(steps, found.steps), max(restarts, found.restarts)
    for needed in map(parse, _TIERS["standard"]):
        steps, restarts = kinds.get(needed.kind, (0, 0))
        if steps < needed.steps or restarts < needed.restarts:
            return True
    return False

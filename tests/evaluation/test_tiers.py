from __future__ import annotations

import pytest
import torch

from atd.attacks.suite import member
from atd.config import EvaluateConfig
from atd.evaluation import tiers
from atd.evaluation.subject import Subject
from atd.evaluation.tiers import Tier, resolve_tier
from atd.evaluation.worst import Attack, Group, attack_batch


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tier": "smoke"}, ("smoke", 10, 1)),
        ({}, ("paper", 100, 1)),
        ({"tier": "standard"}, ("standard", 100, 3)),
        ({"tier": "strong"}, ("strong", 100, 5)),
        ({"tier": "standard", "steps": 7}, ("custom", 7, 3)),
        ({"restarts": 4}, ("custom", 100, 4)),
        ({"tier": "smoke", "steps": 10}, ("smoke", 10, 1)),
    ],
)
def test_tiers(options: dict[str, object], expected: tuple[str, int, int]) -> None:
    tier = resolve_tier(EvaluateConfig(**options))
    assert (tier.name, tier.steps, tier.restarts) == expected


def test_every_tier_holds_the_attack_of_the_one_before() -> None:
    kinds = [
        {str(member) for member in resolve_tier(EvaluateConfig(tier=name)).members}
        for name in ("paper", "standard", "strong")
    ]
    assert kinds[0] <= kinds[1]
    assert kinds[0] <= kinds[2]


def test_overrides_leave_square_its_queries() -> None:
    members = resolve_tier(EvaluateConfig(tier="strong", steps=7, restarts=2)).members
    assert member("square", 1000) in members
    assert {m.steps for m in members if m.kind != "square"} == {7}
    assert member("apgd", 7, 2) in members
    assert member("features", 7, 1) in members


@pytest.mark.parametrize("name", ["smoke", "paper", "standard", "strong"])
def test_documented_cost_is_the_tiers(name: str) -> None:
    forward, backward = resolve_tier(EvaluateConfig(tier=name)).passes
    rows = [line for line in tiers.__doc__.splitlines() if f"{forward:,} | {backward:,} |" in line]
    assert len(rows) == 1
    assert rows[0].startswith(f"| {name} |")


@pytest.mark.parametrize(
    "kind", ["pgd", "momentum", "apgd", "features", "square", "transfer", "saturating", "fgsm"]
)
def test_passes_are_what_an_attack_takes(convolutional, images, kind: str) -> None:
    """Counted on a detector; one forward and one backward more look at the unchanged image."""
    calls = {"forward": 0, "backward": 0}

    class Counting(type(convolutional)):
        def forward(self, images):
            calls["forward"] += 1
            if images.requires_grad:
                images.register_hook(lambda _: calls.update(backward=calls["backward"] + 1))
            return super().forward(images)

        def features(self, images):
            return self.logits(images).unsqueeze(1)

    tried = member(kind, 1 if kind == "fgsm" else 6, 1)
    detector, other = Counting().eval(), Counting(seed=1).eval()
    pixels = images("any", 0, 256, 3).pixels
    attack = Attack(members=(tried,), epsilon=0.1, targets=pixels / 255, sources=(other,))
    attack_batch(Subject(detector), [Group(pixels, torch.arange(3), 1, attack)])
    forward, backward = tried.passes
    assert calls["backward"] - 1 == backward
    assert abs(calls["forward"] - 1 - forward) <= 2


def test_cost_of_a_tier_is_the_sum() -> None:
    tier = Tier("two", (member("pgd", 10, 2), member("square", 100)))
    assert tier.passes == (22 + 101, 20)

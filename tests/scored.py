"""Attacked scores of toy images, and detectors that count their work or give it up."""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import Tensor, nn
from toys import Toy

from atd.attacks.suite import member
from atd.evaluation.jobs import ScoredSet
from atd.evaluation.scoring import attack_scores
from atd.evaluation.worst import Attack

EPSILON = 8 / 255


def score(
    detector: nn.Module,
    images: object,
    kind: str = "pgd",
    steps: int = 5,
    restarts: int = 1,
    **more,
) -> ScoredSet:
    fields = {field.name for field in dataclasses.fields(Attack)}
    members = () if kind == "none" else (member(kind, steps, restarts),)
    attack = {key: value for key, value in more.items() if key in fields}
    rest = {key: value for key, value in more.items() if key not in fields}
    chosen = Attack(**{"members": members, "epsilon": EPSILON} | attack)
    return attack_scores(detector, images, chosen, **{"direction": 1} | rest)


def assert_same(one: ScoredSet, two: ScoredSet) -> None:
    for name, value in dataclasses.asdict(one).items():
        np.testing.assert_array_equal(value, getattr(two, name), err_msg=name)


class Counting(Toy):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.inner.logits(images)


class Stopping(Toy):
    """Gives up after some calls, as a user may."""

    def __init__(self, inner: nn.Module, calls: int) -> None:
        super().__init__()
        self.inner = inner
        self.left = calls

    def __repr__(self) -> str:
        return "Stopping"

    def forward(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.inner.logits(images)

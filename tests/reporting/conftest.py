"""One finished evaluation for the reports."""

from __future__ import annotations

import pytest
from toys import TIER, Brightness, ToySplits, grey

from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.settings import Settings


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """One finished evaluation for the reports; treat it as read-only."""
    sets = ToySplits(
        id_val=grey("dark", 60, 100, 40, seed=1),
        id_test=grey("dark", 60, 100, 30, seed=2),
        ood_test={"bright|wide": grey("b", 80, 130, 25, seed=3), "close": grey("c", 64, 110, 15)},
        roles={"bright|wide": "far", "close": "near"},
    )
    attack = Settings(tier=TIER, epsilon=8 / 255, progress=False)
    return evaluate(
        Brightness(), sets, attack, name="toy", path="runs/toy", baselines={"dim": Brightness(-1.0)}
    )

"""The step has not become slower, and a step that has would be noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.guard import KEPT, ratio, small_steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def steps():
    return small_steps()


@pytest.fixture(scope="module")
def least():
    record = json.loads((Path(__file__).parent / "guard.json").read_text(encoding="utf-8"))
    return KEPT * record["ratio"]


def test_step_keeps_its_lead_over_the_published_one(steps, least):
    found = ratio(steps, enough=least)
    assert found >= least, (
        f"a training step is {found:.2f} times as fast as the published one; the recorded ratio "
        f"allows {least:.2f}. If that is meant: python -m benchmarks.guard --output "
        "tests/benchmarks/guard.json"
    )


def test_a_planted_slow_down_is_noticed(steps, least):
    def twice() -> None:
        steps["ours"]()
        steps["ours"]()

    assert ratio({**steps, "ours": twice}, enough=least) < least

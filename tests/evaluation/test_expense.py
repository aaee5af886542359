"""What an evaluation takes is known before it is made."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import Brightness

from atd.config import EvaluateConfig
from atd.evaluation.expense import (
    RUNGS,
    evaluation_seconds,
    richest_evaluation,
    seconds_per_step,
)

COUNTS = (200, 900, 300)


def test_attacks_and_checks_count_backward_passes_twice():
    smoke = EvaluateConfig(tier="smoke", limit=10)
    steps = 30 * (11 + 2 * 10) / 3
    checks = evaluation_seconds(smoke, 1.0, COUNTS, 1.0) - steps
    assert 400 * 30 < checks < 1000 * 30
    assert evaluation_seconds(smoke, 0.5, COUNTS, 3.0) == pytest.approx(1.5 * (steps + checks))


@given(seconds=st.floats(1, 1e5), step=st.floats(1e-5, 1e-1), comparable=st.booleans())
def test_the_richest_that_fits_is_chosen(seconds, step, comparable):
    options = EvaluateConfig(baselines=["msp"])
    chosen = richest_evaluation(
        options, step, COUNTS, scores=1.0, comparable=comparable, seconds=seconds
    )
    found = (chosen.tier, chosen.limit, bool(chosen.baselines))
    assert found in RUNGS
    judged = 1 + (found[2] and comparable)
    if found != RUNGS[0]:
        assert evaluation_seconds(chosen, step, COUNTS, judged) <= seconds
    later = RUNGS[RUNGS.index(found) + 1 :]
    for tier, limit, compared in later:
        richer = EvaluateConfig(tier=tier, limit=limit)
        judged = 1 + (compared and comparable)
        assert evaluation_seconds(richer, step, COUNTS, judged) > seconds


def test_a_step_takes_time():
    assert 0 < seconds_per_step(Brightness(), torch.device("cpu")) < 1

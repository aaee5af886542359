from __future__ import annotations

import numpy as np
import pytest

from atd.evaluation import checks


def test_finite() -> None:
    assert checks.scores_finite([np.array([1.0, -1e30])])["passed"]
    failed = checks.scores_finite([np.array([1.0]), np.array([np.nan, np.inf])])
    assert (failed["passed"], failed["value"]) == (False, 2.0)


def test_attack_never_weaker() -> None:
    assert checks.attack_never_weaker([np.array([0.0, 0.3])])["passed"]
    failed = checks.attack_never_weaker([np.array([0.2]), np.array([-1e-6, 1.0])])
    assert (failed["passed"], failed["value"]) == (False, 1.0)


@pytest.mark.parametrize(("zeros", "passed"), [(0, True), (1, True), (2, False), (100, False)])
def test_gradients_present_allows_one_percent(zeros: int, passed: bool) -> None:
    check = checks.gradients_present([np.arange(50) < zeros, np.arange(50, 100) < zeros])
    assert (check["passed"], check["value"]) == (passed, zeros / 100)


def test_weak_attack_must_not_beat_the_main_one() -> None:
    assert checks.weaker_attack_is_weaker("FGSM", weaker=0.7, main=0.6)["passed"]
    assert checks.weaker_attack_is_weaker("FGSM", weaker=0.595, main=0.6)["passed"]
    failed = checks.weaker_attack_is_weaker("FGSM", weaker=0.5, main=0.6)
    assert not failed["passed"]
    assert failed["value"] == pytest.approx(-0.1)
    assert "FGSM" in failed["detail"]


def test_ladder_is_judged_in_order_of_radius() -> None:
    falling = checks.epsilon_monotone({0.1: 0.4, 0.0: 0.9, 0.05: 0.7})
    assert falling["passed"]
    assert falling["value"] == [[0.0, 0.9], [0.05, 0.7], [0.1, 0.4]]
    assert not checks.epsilon_monotone({0.0: 0.9, 0.05: 0.4, 0.1: 0.6})["passed"]
    assert checks.epsilon_monotone({0.0: 0.9})["passed"]


@pytest.mark.parametrize(("auroc", "passed"), [(0.0, True), (0.05, True), (0.2, False)])
def test_unbounded_attack_must_win(auroc: float, passed: bool) -> None:
    assert checks.unbounded_attack_wins(auroc)["passed"] is passed


def test_verdict_names_what_failed() -> None:
    good, bad = checks.unbounded_attack_wins(0.0), checks.unbounded_attack_wins(0.9)
    assert checks.verdict({"a": good}) == "robustness numbers can be trusted"
    assert checks.verdict({"a": good, "b": bad, "c": bad}) == "suspicious: b, c"

from __future__ import annotations

import numpy as np
import pytest

from atd.evaluation import checks


def test_finite() -> None:
    assert checks.scores_finite([np.zeros(4, bool)]).passed
    failed = checks.scores_finite([np.array([False, True]), np.zeros(2, bool)])
    assert (failed.passed, failed.value) == (False, 0.25)


@pytest.mark.parametrize(("tied", "passed"), [(0, True), (5, True), (7, False), (100, False)])
def test_scores_distinct_allows_few_ties(tied: int, passed: bool) -> None:
    scores = np.concatenate([np.arange(100.0 - tied), np.full(tied, -1.0)])
    check = checks.scores_distinct(np.concatenate([scores, [-1.0]])[:100], 100)
    assert check.passed is passed
    assert check.value == pytest.approx(max(0, tied - 1) / 100)


def test_copies_of_an_image_may_have_its_score() -> None:
    assert checks.scores_distinct(np.array([1.0, 2.0, 2.0, 2.0]), 2).value == 0
    assert not checks.scores_distinct(np.array([1.0, 2.0, 2.0, 2.0]), 4).passed


@pytest.mark.parametrize(("share", "true", "useful"), [(0, 1, 1), (0.15, 0, 1), (0.5, 0, 0)])
def test_gradient_checks_have_their_limits(share: float, true: int, useful: int) -> None:
    assert checks.gradients_true(share).passed == bool(true)
    assert checks.gradients_useful(share).passed == bool(useful)


def test_agreement_names_what_was_compared() -> None:
    check = checks.agrees("between two calls", 2e-3, "It is random.")
    assert not check.passed
    assert "between two calls" in check.detail
    assert "It is random." in check.detail
    assert checks.agrees("between two calls", 1e-4, "It is random.").passed


@pytest.mark.parametrize(("zeros", "passed"), [(0, True), (1, True), (2, False), (100, False)])
def test_gradients_present_allows_one_percent(zeros: int, passed: bool) -> None:
    check = checks.gradients_present([np.arange(50) < zeros, np.arange(50, 100) < zeros])
    assert (check.passed, check.value) == (passed, zeros / 100)


def every(auroc: float) -> dict[str, float]:
    return {"in": auroc, "out": auroc, "both": auroc}


def test_weak_attack_must_not_beat_the_main_one() -> None:
    assert checks.weaker_attack_is_weaker("FGSM", weaker=every(0.7), main=every(0.6)).passed
    assert checks.weaker_attack_is_weaker("FGSM", weaker=every(0.595), main=every(0.6)).passed
    failed = checks.weaker_attack_is_weaker("FGSM", weaker=every(0.5), main=every(0.6))
    assert not failed.passed
    assert failed.value == pytest.approx(-0.1)
    assert "FGSM" in failed.detail


@pytest.mark.parametrize(("side", "words"), [("in", "ID attacked"), ("out", "OOD attacked")])
def test_one_side_cannot_hide_what_is_wrong_on_the_other(side: str, words: str) -> None:
    main = every(0.0)
    found = [
        checks.weaker_attack_is_weaker("FGSM", weaker=every(0.3), main={**every(0.0), side: 0.8}),
        checks.strong_enough("pgd-40x1", {**main, side: 0.8}, "apgd-40x1", main),
        checks.ladder_falls("epsilon", {0: main, 1: {**main, side: 0.5}}, ""),
    ]
    assert not any(check.passed for check in found)
    assert all(words in check.detail for check in found)


def test_ladder_is_judged_in_order_of_strength() -> None:
    falling = checks.ladder_falls(
        "steps", {10: every(0.4), 1: every(0.9), 5: every(0.7)}, "Broken."
    )
    assert falling.passed
    assert falling.value == [[1.0, 0.9], [5.0, 0.7], [10.0, 0.4]]
    assert "Broken." in falling.detail
    assert not checks.ladder_falls(
        "steps", {0: every(0.9), 1: every(0.4), 2: every(0.6)}, ""
    ).passed
    assert checks.ladder_falls("steps", {0: every(0.9)}, "").passed
    assert checks.ladder_falls("epsilon", {1: every(0.0), 2: {"both": 0.0}}, "").passed


@pytest.mark.parametrize(("auroc", "passed"), [(0.0, True), (0.05, True), (0.2, False)])
def test_unbounded_attack_must_win(auroc: float, passed: bool) -> None:
    assert checks.unbounded_attack_wins(auroc).passed is passed


def test_verdict_names_what_failed() -> None:
    good, bad = checks.unbounded_attack_wins(0.0), checks.unbounded_attack_wins(0.9)
    assert checks.verdict({"a": good}) == "robustness numbers can be trusted"
    assert checks.verdict({"a": good, "b": bad, "c": bad}) == "suspicious: b, c"


@pytest.mark.parametrize(("gap", "passed"), [(-0.02, True), (0.05, True), (0.2, False)])
def test_tier_far_weaker_than_apgd_is_told(gap: float, passed: bool) -> None:
    check = checks.strong_enough("pgd-40x1", every(0.6 + gap), "apgd-40x1", every(0.6))
    assert check.passed is passed
    assert check.value == pytest.approx(gap)
    assert "pgd-40x1" in check.detail

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from atd.errors import UserError
from atd.metrics import (
    auroc,
    auroc_interval,
    mean_auroc_interval,
    mean_metrics,
    metrics,
    threshold_at,
)

KEYS = {"auroc", "auroc_ci", "fpr95_id", "fpr95_ood", "aupr_in", "aupr_out", "detection_error"}

# Whole numbers from a small range, so that ties within and between the sides are common.
sides = arrays(np.int64, st.integers(1, 60), elements=st.integers(-12, 12))


def all_metrics(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    found = metrics(id_scores, ood_scores, resamples=10)
    found.pop("auroc_ci")
    return found


@settings(deadline=None, max_examples=60)
@given(sides, sides)
def test_equals_pytorch_ood(id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
    from pytorch_ood.metrics import functional

    scores = torch.from_numpy(np.concatenate([id_scores, ood_scores])).double()
    labels = torch.cat([torch.zeros(len(id_scores)), -torch.ones(len(ood_scores))]).long()
    swapped = torch.where(labels < 0, 0, -1)
    expected = {
        "auroc": functional.auroc(scores, labels),
        "fpr95_id": functional.fpr_at_tpr(-scores, swapped, 0.95),
        "fpr95_ood": functional.fpr_at_tpr(scores, labels, 0.95),
        "aupr_in": functional.aupr(scores, labels, "id"),
        "aupr_out": functional.aupr(scores, labels, "ood"),
    }
    found = all_metrics(id_scores, ood_scores)
    for key, value in expected.items():
        assert found[key] == pytest.approx(float(value), abs=1e-12), key


@settings(deadline=None, max_examples=60)
@given(sides, sides)
def test_auroc_counts_pairs_with_ties_as_half(
    id_scores: np.ndarray, ood_scores: np.ndarray
) -> None:
    above = np.sign(ood_scores[:, None] - id_scores[None, :])
    assert auroc(id_scores, ood_scores) == pytest.approx((above.mean() + 1) / 2, abs=1e-12)
    labels = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    pooled = np.concatenate([id_scores, ood_scores])
    assert metrics(id_scores, ood_scores, resamples=5)["auroc"] == roc_auc_score(labels, pooled)


@settings(deadline=None, max_examples=60)
@given(sides, sides)
def test_detection_error_is_the_best_threshold(
    id_scores: np.ndarray, ood_scores: np.ndarray
) -> None:
    thresholds = [-np.inf, *np.concatenate([id_scores, ood_scores])]
    errors = [((id_scores > t).mean() + (ood_scores <= t).mean()) / 2 for t in thresholds]
    assert all_metrics(id_scores, ood_scores)["detection_error"] == pytest.approx(min(errors))


@settings(deadline=None, max_examples=60)
@given(sides, sides)
def test_invariant_under_monotone_transforms(id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
    found = all_metrics(id_scores, ood_scores)
    assert all_metrics(np.exp(id_scores / 4) - 7, np.exp(ood_scores / 4) - 7) == found


@settings(deadline=None, max_examples=60)
@given(sides, sides)
def test_swapping_sides_and_sign_swaps_the_conventions(
    id_scores: np.ndarray, ood_scores: np.ndarray
) -> None:
    found = all_metrics(id_scores, ood_scores)
    swapped = all_metrics(-ood_scores, -id_scores)
    pairs = {"fpr95_id": "fpr95_ood", "aupr_in": "aupr_out"}
    pairs |= {value: key for key, value in pairs.items()}
    for key in found:
        assert swapped[pairs.get(key, key)] == pytest.approx(found[key], abs=1e-12), key
    assert auroc(ood_scores, id_scores) == pytest.approx(1 - found["auroc"], abs=1e-12)


def test_hand_made_example() -> None:
    # 20 ID images, of which 19 lie below 0; 4 OOD images at -0.5, 1, 2 and 5.
    id_scores = [-1.0] * 19 + [3.0]
    found = metrics(id_scores, [-0.5, 1.0, 2.0, 5.0])
    assert found["auroc"] == pytest.approx((19 * 4 + 1) / 80)
    assert found["fpr95_id"] == 0.0  # accepting up to -1 takes 95 % of ID and no OOD
    assert found["fpr95_ood"] == pytest.approx(1 / 20)  # flagging all 4 from -0.5 flags the 3
    assert found["detection_error"] == pytest.approx(1 / 40)


def test_both_conventions_of_fpr95_differ_as_documented() -> None:
    # A tenth of the OOD images look like the deepest ID images.
    id_scores, ood_scores = np.arange(100.0), np.r_[np.full(10, -1.0), np.full(90, 200.0)]
    found = metrics(id_scores, ood_scores)
    assert found["fpr95_id"] == pytest.approx(0.1)
    assert found["fpr95_ood"] == 1.0


def test_keys_and_types_are_those_of_the_results_file() -> None:
    found = metrics(np.float32([0.0, 1.0]), np.float32([1.0, 2.0]))
    assert set(found) == KEYS
    assert all(type(value) is float for key, value in found.items() if key != "auroc_ci")
    assert [type(value) for value in found["auroc_ci"]] == [float, float]


def test_float32_scores_far_from_zero_keep_their_order() -> None:
    # A sigmoid, or float32 arithmetic on ranks, would tie these.
    generator = np.random.default_rng(0)
    id_scores, ood_scores = generator.normal(30, 6, 4000), generator.normal(36, 6, 4000)
    assert auroc(id_scores, ood_scores) == pytest.approx(0.76, abs=0.02)


def test_interval_is_seeded_and_covers_the_estimate() -> None:
    generator = np.random.default_rng(1)
    id_scores, ood_scores = generator.normal(0, 1, 200), generator.normal(1, 1, 150)
    low, high = auroc_interval(id_scores, ood_scores)
    assert auroc_interval(id_scores, ood_scores) == [low, high]
    assert auroc_interval(id_scores, ood_scores, seed=1) != [low, high]
    assert low < auroc(id_scores, ood_scores) < high
    # Hanley and McNeil's standard error for 200 x 150 at an AUROC near 0.76 is about 0.027.
    assert high - low == pytest.approx(2 * 1.96 * 0.027, rel=0.25)


def test_the_interval_of_a_mean_is_as_wide_as_its_sets_say() -> None:
    generator = np.random.default_rng(0)
    inside = generator.normal(0, 1, 200)
    outside = [generator.normal(1, 1, 150) for _ in range(4)]
    one = mean_auroc_interval([(inside, outside[0])])
    assert one == pytest.approx(auroc_interval(inside, outside[0]), abs=0.01)
    low, high = mean_auroc_interval([(inside, each) for each in outside])
    assert low < np.mean([auroc(inside, each) for each in outside]) < high
    # The ID images are the same in all pairs, so that four sets do not halve the interval.
    assert 0.6 < (high - low) / (one[1] - one[0]) < 0.95
    assert mean_auroc_interval([(inside, outside[0])] * 2)[0] == pytest.approx(one[0], abs=0.02)


@pytest.mark.parametrize("bad", [[], [np.nan, 1.0], [np.inf]])
def test_unusable_scores_are_the_users_error(bad: list[float]) -> None:
    with pytest.raises(UserError, match="ID scores"):
        metrics(bad, [1.0])
    with pytest.raises(UserError, match="OOD scores"):
        metrics([1.0], bad)
    with pytest.raises(UserError, match="ID scores"):
        threshold_at(bad)


@given(sides, st.floats(0.01, 1.0))
def test_threshold_accepts_the_share_and_is_the_smallest_that_does(
    scores: np.ndarray, acceptance: float
) -> None:
    threshold = threshold_at(scores, acceptance)
    assert (scores <= threshold).mean() >= acceptance - 1e-9
    assert (scores < threshold).mean() < acceptance


@pytest.mark.parametrize("count", [20, 40, 60, 140, 1000])
def test_threshold_takes_exactly_95_percent_where_that_is_a_whole_number(count: int) -> None:
    assert (np.arange(count) <= threshold_at(np.arange(count))).sum() == count * 95 // 100


@pytest.mark.parametrize("acceptance", [0.0, 1.01, -0.5])
def test_threshold_refuses_impossible_shares(acceptance: float) -> None:
    with pytest.raises(UserError, match="acceptance"):
        threshold_at([1.0], acceptance)


def test_mean_is_over_sets_and_leaves_the_interval_out() -> None:
    items = [metrics([0, 1], [1, 2]), metrics([0, 1], [2, 3])]
    assert set(mean_metrics(items)) == KEYS - {"auroc_ci"}
    assert mean_metrics(items)["auroc"] == pytest.approx((0.875 + 1) / 2)

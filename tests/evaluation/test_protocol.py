from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atd.config import Config, EvaluateConfig, RunConfig
from atd.errors import UserError
from atd.evaluation.metrics import metrics
from atd.evaluation.protocol import CONDITIONS, evaluate, resolve_tier, settings_from

TOP = {"schema", "detector", "attack", "id", "datasets", "mean", "mean_near", "mean_over"}
TOP |= {"threshold", "baselines", "checks", "verdict", "provenance"}


def test_results_hold_what_the_contract_names(brightness, splits, settings) -> None:
    results = evaluate(brightness, splits, settings, name="toy", path="here").results
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert set(results) == TOP
    assert results["schema"] == 1
    assert results["detector"] == {"name": "toy", "path": "here", "parameters": 1}
    assert results["id"] == {"name": "dark", "images": 30}
    attack = results["attack"]
    assert attack["epsilon"] == 8 / 255
    assert attack["step_size"] == pytest.approx(2.5 * 8 / 255 / 4)
    assert (attack["tier"], attack["norm"], attack["steps"]) == ("smoke", "linf", 4)
    for item in results["datasets"].values():
        assert set(item) == {"images", "role", *CONDITIONS}
        assert set(item["both"]) == set(metrics([0], [1]))
    assert set(results["threshold"]) == {
        "value", "tpr_clean", "tpr_attacked", "fpr_clean", "fpr_attacked",
    }  # fmt: skip
    for check in results["checks"].values():
        assert set(check) == {"passed", "value", "detail"}
        assert type(check["passed"]) is bool


def test_conditions_attack_the_named_side(brightness, splits, settings) -> None:
    found = evaluate(brightness, splits, settings, name="toy")
    inside, outside = found.id_test, found.ood["bright"]
    item = found.results["datasets"]["bright"]
    sides = {
        "clean": (inside.clean, outside.clean),
        "in": (inside.attacked, outside.clean),
        "out": (inside.clean, outside.attacked),
        "both": (inside.attacked, outside.attacked),
    }
    for condition, (id_scores, ood_scores) in sides.items():
        assert item[condition] == metrics(id_scores, ood_scores)
    assert (inside.direction, outside.direction) == (1, -1)
    assert item["both"]["auroc"] <= min(item["in"]["auroc"], item["out"]["auroc"])


def test_sets_used_for_selection_are_marked_and_left_out_of_the_mean(
    brightness, splits, settings
) -> None:
    results = evaluate(brightness, splits, settings, name="toy").results
    roles = {name: item["role"] for name, item in results["datasets"].items()}
    assert roles == {"bright": "far", "chosen": "validation", "close": "near"}
    assert results["mean_over"] == ["bright"]
    for condition in CONDITIONS:
        for mean, name in (("mean", "bright"), ("mean_near", "close")):
            assert (
                results[mean][condition]["auroc"] == results["datasets"][name][condition]["auroc"]
            )


def test_mean_is_over_every_set_where_none_is_far(brightness, splits, settings) -> None:
    near = dataclasses.replace(splits, roles=dict.fromkeys(splits.ood_test, "near"))
    results = evaluate(brightness, near, settings, name="toy").results
    assert results["mean_over"] == ["bright", "chosen", "close"]


def test_threshold_comes_from_held_out_id_images(brightness, splits, settings) -> None:
    found = evaluate(brightness, splits, settings, name="toy")
    block = found.results["threshold"]
    assert (found.id_val <= block["value"]).mean() == 0.95
    assert block["tpr_clean"] == (found.id_test.clean <= block["value"]).mean()
    assert block["tpr_attacked"] == (found.id_test.attacked <= block["value"]).mean()
    assert block["fpr_clean"] == (found.ood["bright"].clean <= block["value"]).mean()
    assert block["fpr_attacked"] == (found.ood["bright"].attacked <= block["value"]).mean()
    assert block["tpr_attacked"] <= block["tpr_clean"]
    assert block["fpr_attacked"] >= block["fpr_clean"]


def test_honest_detector_is_trusted(convolutional, splits, settings) -> None:
    results = evaluate(convolutional, splits, settings, name="toy").results
    assert results["verdict"] == "robustness numbers can be trusted"


class Masked(nn.Module):
    """Separates well by brightness and hides its gradient behind a staircase."""

    def logits(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return (mean * 30).round() + 0.0 * mean


class Shattered(nn.Module):
    """Brightness under a ripple whose gradient drowns that of the brightness."""

    def logits(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return 10 * mean + 0.1 * (3e4 * images).sin().flatten(1).mean(1)


@pytest.mark.parametrize(
    ("detector", "failing"),
    [(Masked(), "gradients_present"), (Shattered(), "unbounded_attack_wins")],
)
def test_hidden_gradients_make_the_numbers_suspicious(splits, settings, detector, failing) -> None:
    results = evaluate(detector, splits, settings, name="toy").results
    assert not results["checks"][failing]["passed"]
    assert results["verdict"].startswith("suspicious: ")
    assert failing in results["verdict"]


def test_baselines_are_attacked_on_the_same_sets(brightness, splits, settings) -> None:
    results = evaluate(
        brightness,
        splits,
        settings,
        name="toy",
        baselines={"same": brightness, "inverse": Inverse()},
    ).results
    assert results["baselines"]["same"] == results["mean"]
    inverse = results["baselines"]["inverse"]["clean"]["auroc"]
    assert inverse == pytest.approx(1 - results["mean"]["clean"]["auroc"])


class Inverse(nn.Module):
    def logits(self, images: Tensor) -> Tensor:
        return -images.flatten(1).mean(1)


def test_interrupted_evaluation_goes_on_where_it_stopped(
    convolutional, splits, settings, tmp_path: Path
) -> None:
    whole = evaluate(convolutional, splits, settings, name="toy")
    cached = dataclasses.replace(settings, cache=tmp_path)
    evaluate(convolutional, splits, cached, name="toy")
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        if number % 2:
            file.unlink()
    again = evaluate(convolutional, splits, cached, name="toy")
    np.testing.assert_array_equal(again.id_test.attacked, whole.id_test.attacked)
    skip = {"provenance"}
    kept = {key: value for key, value in again.results.items() if key not in skip}
    assert kept == {key: value for key, value in whole.results.items() if key not in skip}


def test_without_ood_sets_the_key_is_named(brightness, splits, settings) -> None:
    with pytest.raises(UserError, match=r"data\.ood_test"):
        evaluate(brightness, dataclasses.replace(splits, ood_test={}), settings, name="toy")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tier": "smoke"}, ("smoke", 10, 1)),
        ({}, ("paper", 100, 1)),
        ({"tier": "standard"}, ("standard", 100, 5)),
        ({"tier": "standard", "steps": 7}, ("custom", 7, 5)),
        ({"restarts": 3}, ("custom", 100, 3)),
        ({"tier": "smoke", "steps": 10}, ("smoke", 10, 1)),
    ],
)
def test_tiers(options: dict[str, object], expected: tuple[str, int, int]) -> None:
    assert dataclasses.astuple(resolve_tier(EvaluateConfig(**options))) == expected


def test_settings_follow_the_config() -> None:
    config = Config(run=RunConfig(seed=5), evaluate=EvaluateConfig(epsilon=0.1, batch_size=3))
    found = settings_from(config, device=torch.device("cpu"), cache=Path("c"))
    assert (found.seed, found.epsilon, found.batch_size) == (5, 0.1, 3)
    assert settings_from(Config()).epsilon == Config().atd.epsilon

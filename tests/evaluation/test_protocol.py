from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import Brightness, Convolutional, Toy

from atd.attacks.suite import member
from atd.config import Config, DataConfig, EvaluateConfig, RunConfig
from atd.errors import UserError
from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.settings import settings_from
from atd.evaluation.tiers import Tier
from atd.metrics import CONDITIONS, metrics

TOP = {"schema", "detector", "attack", "id", "datasets", "mean", "mean_near", "mean_over"}
TOP |= {"threshold", "baselines", "checks", "verdict", "provenance"}
TOP |= {"protocol", "strongest", "stronger", "curves", "left_out", "certificate"}


@pytest.fixture(scope="module")
def of_brightness(splits, settings) -> Evaluation:
    return evaluate(Brightness(), splits, settings, name="toy", path="here")


@pytest.fixture(scope="module")
def of_convolutions(splits, settings) -> Evaluation:
    return evaluate(Convolutional(), splits, settings, name="toy")


def test_results_hold_what_the_contract_names(of_brightness) -> None:
    results = of_brightness.results.to_json()
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert set(results) == TOP
    assert results["schema"] == 1
    detector = results["detector"]
    assert len(detector.pop("sha256")) == 64
    assert detector == {"name": "toy", "kind": "toy", "path": "here", "parameters": 1}
    assert results["id"] == {"name": "dark", "images": 30}
    attack = results["attack"]
    assert attack["epsilon"] == 8 / 255
    assert attack["step_size"] == pytest.approx(2.5 * 8 / 255 / 4)
    assert (attack["tier"], attack["norm"], attack["steps"]) == ("smoke", "linf", 4)
    assert (attack["members"], attack["restarts"]) == (["pgd-4x1"], 1)
    assert attack["passes"] == {"forward": 5, "backward": 4}
    for item in results["datasets"].values():
        assert set(item) == {"images", "role", *CONDITIONS}
        assert set(item["both"]) == set(metrics([0], [1]))
    assert set(results["threshold"]) == {
        "value", "tpr_clean", "tpr_attacked", "fpr_clean", "fpr_attacked", "note", "evaluated",
    }  # fmt: skip
    for check in results["checks"].values():
        assert set(check) == {"passed", "value", "detail"}
        assert type(check["passed"]) is bool


def test_conditions_attack_the_named_side(of_brightness) -> None:
    found = of_brightness
    inside, outside = found.id_test, found.ood["bright"]
    item = found.results.to_json()["datasets"]["bright"]
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


def test_sets_used_for_selection_are_marked_and_left_out_of_the_mean(of_brightness) -> None:
    results = of_brightness.results.to_json()
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
    results = evaluate(brightness, near, settings, name="toy").results.to_json()
    assert results["mean_over"] == ["bright", "chosen", "close"]


def test_threshold_comes_from_held_out_id_images(of_brightness, brightness, splits) -> None:
    found = of_brightness
    block = found.results.to_json()["threshold"]
    assert (found.id_val <= block["value"]).mean() == 0.95
    assert block["tpr_clean"] == (found.id_test.clean <= block["value"]).mean()
    assert block["tpr_attacked"] == (found.id_test.attacked <= block["value"]).mean()
    assert block["fpr_clean"] == (found.ood["bright"].clean <= block["value"]).mean()
    assert block["fpr_attacked"] == (found.ood["bright"].attacked <= block["value"]).mean()
    assert block["tpr_attacked"] <= block["tpr_clean"]
    assert block["fpr_attacked"] >= block["fpr_clean"]


def test_honest_detector_is_trusted(of_convolutions) -> None:
    results = of_convolutions.results.to_json()
    assert results["verdict"] == "robustness numbers can be trusted"


class Masked(Toy):
    """Separates well by brightness and hides its gradient behind a staircase."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return (mean * 30).round() + 0.0 * mean


class Shattered(Toy):
    """Brightness under a ripple whose gradient drowns that of the brightness."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return 10 * mean + 0.1 * (3e4 * images).sin().flatten(1).mean(1)


class Detached(Toy):
    """Passes no gradient at all."""

    def forward(self, images: Tensor) -> Tensor:
        return images.detach().flatten(1).mean(1)


class Breaking(Toy):
    """NaN where an attack would take the images."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.where((mean - 0.38).abs() < 0.02, torch.nan, mean)


class Random(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).mean(1) + 0.05 * torch.rand(len(images))


@pytest.mark.parametrize(
    ("detector", "failing"),
    [
        (Masked(), {"gradients_present", "square_weaker", "scores_distinct"}),
        (Shattered(), {"gradients_useful", "square_weaker"}),
        (Detached(), {"gradients_present", "square_weaker", "unbounded_attack_wins"}),
        (Breaking(), {"scores_finite"}),
        (Random(), {"same_score_twice"}),
    ],
)
def test_fraud_makes_the_numbers_suspicious(splits, settings, detector, failing) -> None:
    settings = dataclasses.replace(settings, epsilon=24 / 255)
    results = evaluate(detector, splits, settings, name="toy").results.to_json()
    assert results["verdict"].startswith("suspicious: ")
    failed = {name for name, check in results["checks"].items() if not check["passed"]}
    assert failing <= failed
    assert set(results["verdict"].removeprefix("suspicious: ").split(", ")) == failed
    assert results["attack"]["draws"] == (20 if isinstance(detector, Random) else 1)


def test_transfer_from_an_honest_twin_exposes_a_hidden_gradient(
    brightness, splits, settings
) -> None:
    twin = {"twin": brightness}
    settings = dataclasses.replace(settings, epsilon=24 / 255)
    checks = evaluate(Masked(), splits, settings, name="toy", sources=twin).results.to_json()[
        "checks"
    ]
    assert not checks["transfer_weaker"]["passed"]
    alone = evaluate(Masked(), splits, settings, name="toy").results.to_json()["checks"]
    assert "transfer_weaker" not in alone


def test_curves_hold_the_numbers_that_the_checks_saw(of_brightness) -> None:
    results = of_brightness.results.to_json()
    curves, checks = results["curves"], results["checks"]
    both = [[rung["epsilon"], rung["both"]] for rung in curves["epsilon"]]
    assert both == checks["epsilon_monotone"]["value"]
    first = curves["epsilon"][0]
    assert first["in"] == first["out"] == first["both"]
    assert [rung["steps"] for rung in curves["steps"]] == [0, 1, 4]
    assert curves["attack"] == "apgd-4x1"
    assert curves["images"] == {"id": 30, "ood": 25}


def test_more_attack_never_helps_the_defender(convolutional, splits, settings) -> None:
    """What was a check before it was clear that only a fault of our own attacks can fail it."""
    settings = dataclasses.replace(settings, tier=Tier("custom", (member("pgd", 20),)))
    found = evaluate(convolutional, splits, settings, name="toy")
    for scored in [found.id_test, *found.ood.values()]:
        assert (scored.direction * (scored.attacked - scored.clean) >= 0).all()
    steps = [point["both"] for point in found.results.curves.steps]
    assert steps == sorted(steps, reverse=True)
    stronger = found.results.stronger
    assert stronger.auroc <= steps[-1]
    assert (stronger.attack, stronger.images.id) == ("apgd-20x3", 30)


class Inverted(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return -images.flatten(1).mean(1)


def test_wrong_direction_is_one_clear_line(splits, settings) -> None:
    with pytest.raises(UserError, match="toy: its AUROC on unattacked .* the wrong way round"):
        evaluate(Inverted(), splits, settings, name="toy")


def test_wrong_direction_is_told_before_the_attacks(splits, settings) -> None:
    detector = Inverted()
    seen: list[int] = []
    detector.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    with pytest.raises(UserError, match="the wrong way round"):
        evaluate(detector, splits, settings, name="toy")
    sets = [splits.id_val, splits.id_test, *splits.ood_test.values()]
    assert sum(seen) <= sum(map(len, sets)) + 100  # once each, and a few for what is random


def test_stopping_early_changes_no_metric(convolutional, splits, settings, monkeypatch) -> None:
    """Against the same evaluation that never stops; a wide ball, so that many samples stop."""
    tier = Tier("custom", (member("pgd", 3, 4), member("square", 20)))
    settings = dataclasses.replace(settings, tier=tier, epsilon=0.1)
    short = evaluate(convolutional, splits, settings, name="toy")
    for module in ("rounds", "probes"):
        monkeypatch.setattr(f"atd.evaluation.{module}.stops", lambda *_: (None, None))
    whole = evaluate(convolutional, splits, settings, name="toy")
    assert not np.array_equal(short.id_test.attacked, whole.id_test.attacked)
    for key in ("datasets", "mean", "mean_near", "threshold", "checks", "curves"):
        assert short.results.to_json()[key] == whole.results.to_json()[key], key


def test_baselines_are_not_compiled(convolutional, splits, settings, monkeypatch) -> None:
    compiled = []

    def record(detector):
        compiled.append(detector)
        return contextlib.nullcontext()

    monkeypatch.setattr("atd.evaluation.judgement.compiled_logits", record)
    settings = dataclasses.replace(settings, compiled=True)
    evaluate(convolutional, splits, settings, name="toy", baselines={"other": Brightness()})
    assert compiled == [convolutional]


def test_a_compiled_detector_is_judged_alike(convolutional, splits, settings, monkeypatch) -> None:
    calls = []

    def pretend(function, mode):
        return lambda images: calls.append(mode) or function(images)

    monkeypatch.setattr(torch, "compile", pretend)
    plain = evaluate(convolutional, splits, settings, name="plain").results.to_json()
    assert not calls
    settings = dataclasses.replace(settings, compiled=True)
    compiled = evaluate(convolutional, splits, settings, name="compiled").results.to_json()
    assert calls
    assert compiled["datasets"] == plain["datasets"]

    calls.clear()
    untraceable = dataclasses.replace(convolutional.info, exportable="it takes a gradient")
    monkeypatch.setattr(convolutional, "info", untraceable)
    judged = evaluate(convolutional, splits, settings, name="untraceable").results.to_json()
    assert not calls
    assert judged["datasets"] == plain["datasets"]


def test_sets_smaller_than_a_batch_or_of_one_image_work(brightness, splits, settings) -> None:
    one = dataclasses.replace(
        splits.ood_test["bright"], pixels=splits.ood_test["bright"].pixels[:1]
    )
    few = dataclasses.replace(splits, ood_test={"one": one}, roles={"one": "far"})
    settings = dataclasses.replace(settings, batch_size=1000)
    results = evaluate(brightness, few, settings, name="toy").results.to_json()
    assert results["datasets"]["one"]["images"] == 1


def test_baselines_are_attacked_on_the_same_sets(brightness, splits, settings) -> None:
    results = evaluate(
        brightness,
        splits,
        settings,
        name="toy",
        baselines={"same": brightness, "inverse": Inverse()},
    ).results.to_json()
    assert results["baselines"]["same"] == {
        key: results[key] for key in ("mean", "datasets", "verdict")
    }
    inverse = results["baselines"]["inverse"]["mean"]["clean"]["auroc"]
    assert inverse == pytest.approx(1 - results["mean"]["clean"]["auroc"])


class Inverse(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return -images.flatten(1).mean(1)


def test_interrupted_evaluation_goes_on_where_it_stopped(
    of_convolutions, convolutional, splits, settings, tmp_path: Path
) -> None:
    whole = of_convolutions
    cached = dataclasses.replace(settings, cache=tmp_path)
    evaluate(convolutional, splits, cached, name="toy")
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        if number % 2:
            file.unlink()
    again = evaluate(convolutional, splits, cached, name="toy")
    np.testing.assert_array_equal(again.id_test.attacked, whole.id_test.attacked)
    skip = {"provenance"}
    kept = {key: value for key, value in again.results.to_json().items() if key not in skip}
    assert kept == {key: value for key, value in whole.results.to_json().items() if key not in skip}


def test_without_ood_sets_the_key_is_named(brightness, splits, settings) -> None:
    with pytest.raises(UserError, match=r"data\.ood_test"):
        evaluate(brightness, dataclasses.replace(splits, ood_test={}), settings, name="toy")


def test_settings_follow_the_config() -> None:
    config = Config(run=RunConfig(seed=5), evaluate=EvaluateConfig(epsilon=0.1, batch_size=3))
    found = settings_from(config, device=torch.device("cpu"), cache=Path("c"))
    assert (found.seed, found.epsilon, found.batch_size) == (5, 0.1, 3)
    assert not found.compiled
    assert settings_from(Config(run=RunConfig(compile=True))).compiled
    assert settings_from(Config()).epsilon == Config().atd.epsilon
    assert settings_from(Config()).protocol == "custom"
    other = Config(
        data=DataConfig(protocol="paper"), evaluate=EvaluateConfig(norm="l2", epsilon=2.5)
    )
    assert settings_from(other).epsilon == 2.5
    assert (settings_from(other).protocol, settings_from(other).norm) == ("paper", "l2")

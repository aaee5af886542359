"""The model card: what the Hub reads of it, and what people do."""

from __future__ import annotations

import dataclasses

import pytest
from huggingface_hub import ModelCard, metadata_load

from atd.detectors.config import DetectorConfig
from atd.evaluation.checks import TRUSTED
from atd.reporting.card import model_card
from atd.reporting.wording import attack_words, percent


@pytest.fixture
def config():
    return DetectorConfig(
        kind="msp",
        image_size=8,
        channels=1,
        options={},
        backbone=None,
        classes=["cat", "dog"],
        threshold=0.125,
        threshold_note="accepts 95 % of clean held-out ID images",
    )


@pytest.fixture
def results(evaluation):
    return dataclasses.replace(evaluation.results, verdict=TRUSTED)


def test_the_hub_finds_every_number_with_its_attack(results, config, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(model_card(results, config), encoding="utf-8")
    head = metadata_load(file)
    assert head["library_name"] == "atd"
    assert {"out-of-distribution-detection", "adversarial-robustness"} <= set(head["tags"])
    (index,) = head["model-index"]
    assert index["name"] == results.detector.name
    assert len(index["results"]) == len(results.datasets)
    data = ModelCard.load(file).data
    numbers = {(item.dataset_name, item.metric_name): item for item in data.eval_results}
    assert len(numbers) == 8 * len(results.datasets)
    attack = results.attack
    for name, found in results.datasets.items():
        of_set = [item for (title, _), item in numbers.items() if f"and {name} (" in title]
        values = {item.metric_name: item.metric_value for item in of_set}
        assert values["AUROC, no attack"] == pytest.approx(found["clean"]["auroc"], abs=1e-6)
        both = f"AUROC, ID and OOD images attacked ({attack_words(attack)})"
        assert values[both] == pytest.approx(found["both"]["auroc"], abs=1e-6)
        for item in of_set:
            if item.metric_name.endswith("no attack"):
                assert item.metric_args is None
                continue
            basis = item.metric_args
            assert basis["attack"] == ", ".join(attack.members)
            assert (basis["norm"], basis["epsilon"]) == (attack.norm, attack.epsilon)
            assert (basis["steps"], basis["restarts"]) == (attack.steps, attack.restarts)
            assert basis["checks"] == results.verdict


def test_names_of_any_kind_stay_data(results, config):
    name = "a: [b]\n---\n# <b> 'c' \"d\" \u2028"
    hostile = dataclasses.replace(
        results,
        detector=dataclasses.replace(results.detector, name=name),
        datasets={f"{name}{key}": item for key, item in results.datasets.items()},
        mean_over=tuple(f"{name}{key}" for key in results.mean_over),
    )
    card = ModelCard(model_card(hostile, config))
    assert card.data.model_name.startswith("a: [b]")
    assert len(card.data.eval_results) == 8 * len(results.datasets)
    plain = ModelCard(model_card(results, config)).text
    assert [line for line in card.text.split("\n") if line.startswith("#")][1:] == [
        line for line in plain.split("\n") if line.startswith("#")
    ][1:]


def test_people_find_use_limits_threat_and_threshold(results, config):
    text = ModelCard(model_card(results, config)).text
    for title in ("Intended use", "What to expect", "Threat model", "Threshold", "Limits"):
        assert f"\n## {title}\n" in text
    limit = results.threshold
    assert f"Scores above {limit.value:.6g} are called OOD. How it was set: accepts 95 %" in text
    assert f"{percent(limit.tpr_attacked)} %" in text
    assert attack_words(results.attack) in text
    assert "8 x 8 pixels" in text
    assert "(cat, dog)" in text


def test_a_failed_check_is_told(results, config):
    name, check = next(iter(results.checks.items()))
    checks = {**results.checks, name: dataclasses.replace(check, passed=False)}
    found = dataclasses.replace(results, checks=checks, verdict=f"suspicious: {name}")
    card = ModelCard(model_card(found, config))
    assert check.detail in card.text.replace("\\", "")
    args = [item.metric_args for item in card.data.eval_results if item.metric_args]
    assert {item["checks"] for item in args} == {f"suspicious: {name}"}

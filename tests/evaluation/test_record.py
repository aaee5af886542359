"""A stored record is text: it opens safe image sets, and does nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from toys import Brightness

from atd.errors import UserError
from atd.evaluation.record import may_download, recorded_config


def recorded(**data) -> Brightness:
    detector = Brightness()
    training = {
        "run": {"name": "theirs", "dir": "/somewhere/else", "seed": 7},
        "data": {"id": "bundled:digits", "ood_test": ["bundled:lowercase"]} | data,
        "backbone": {"weights": "/etc/passwd", "width": 10**9},
        "evaluate": {"tier": "smoke"},
        "atd": {"epsilon": 0.1, "no_longer_an_option": 3},
    }
    detector.config = dataclasses.replace(detector.config, training=training)
    return detector


def test_sets_attack_and_seed_are_taken_and_nothing_else() -> None:
    config = recorded_config(recorded(), "there", ["evaluate.limit=5"])
    assert (config.data.id, config.data.image_size) == ("bundled:digits", 8)
    assert (config.evaluate.tier, config.evaluate.limit, config.run.seed) == ("smoke", 5, 7)
    assert config.evaluation_epsilon == 0.1
    assert (config.run.dir, config.backbone.weights) == ("", "")


@pytest.mark.parametrize("source", ["list:/etc/passwd", "import:os:getcwd", "digits + list:x"])
def test_sources_that_only_a_user_may_name_are_refused(source: str) -> None:
    for key, value in (("id", source), ("ood_test", [f"name={source}"])):
        with pytest.raises(UserError, match=rf"data\.{key}=.*--config"):
            recorded_config(recorded(**{key: value}), "there", [])
        recorded_config(recorded(**{key: value}), "there", [f"data.{key}=bundled:digits"])


def test_training_sources_that_are_not_safe_are_forgotten() -> None:
    assert recorded_config(recorded(outliers="list:x"), "there", []).data.outliers == ""


def test_nothing_is_interpolated(monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "word")
    config = recorded_config(recorded(root="${oc.env:SECRET}"), "there", [])
    assert config.data.root == "${oc.env:SECRET}"


def test_a_detector_without_a_record_asks_for_its_images() -> None:
    with pytest.raises(UserError, match=r"data\.id_test=SOURCE"):
        recorded_config(Brightness(), "there", [])
    words = ["data.id_test=bundled:digits", "data.ood_test=bundled:lowercase"]
    assert recorded_config(Brightness(), "there", words).data.id_test == "bundled:digits"


def test_only_the_user_allows_downloads() -> None:
    assert not may_download(None, ["data.ood_test=svhn"])
    assert may_download("some.yaml", [])
    assert may_download(None, ["data.root=data"])

"""What a run would do is told before, and about how long it takes."""

from __future__ import annotations

import pytest

from atd import forecast
from atd.config import load
from atd.errors import UserError


@pytest.fixture
def make(tiny_yaml, tmp_path):
    return lambda *overrides: load(tiny_yaml, [f"run.dir={tmp_path / 'run'}", *overrides])


def test_every_stage_that_takes_time_has_seconds(make, tmp_path):
    seconds = forecast.forecast(make())
    assert seconds.keys() == {"helper", "pretrain", "atd", "evaluate"}
    assert all(0 < value < 600 for value in seconds.values())
    assert forecast.forecast(make("atd.features=pixels")).keys() == {"atd", "evaluate"}
    assert not (tmp_path / "run").exists()


def test_more_work_takes_longer(make, monkeypatch):
    monkeypatch.setattr(forecast, "_timed", lambda *_: 0.01)
    monkeypatch.setattr(forecast, "_attack_seconds", lambda *_: 0.1)
    one = forecast.forecast(make("atd.epochs=2", "evaluate.baselines=[]"))
    two = forecast.forecast(make("atd.epochs=6", "evaluate.baselines=[msp]"))
    assert two["atd"] == pytest.approx(3 * one["atd"])
    assert two["evaluate"] == pytest.approx(2 * one["evaluate"])
    # 80 ID images less a tenth; 20 ID and 20 OOD images in the test
    assert one["atd"] == pytest.approx(0.01 * 72 * 2)
    assert one["evaluate"] == pytest.approx(0.1 * 40)


def test_what_is_done_is_said_and_not_counted(tiny_run):
    lines = forecast.plan_of(tiny_run.config)
    done = [line.split(":")[0] for line in lines if line.endswith(", done")]
    assert done == ["helper", "pretrain", "atd"]


@pytest.mark.parametrize("option", ["data.id=folder:nowhere", "data.ood_test=[cifar10]"])
def test_what_cannot_be_told_is_not_guessed_and_nothing_is_downloaded(make, option, tmp_path):
    config = make(option, f"data.root={tmp_path}")
    with pytest.raises(UserError):
        forecast.forecast(config)
    assert "nobody can tell yet" in forecast.plan_of(config)[-1]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (75, "75 s"), (400, "7 min"), (36000, "10.0 h")]
)
def test_durations_have_no_more_figures_than_they_deserve(seconds, words):
    assert forecast._words(seconds) == words

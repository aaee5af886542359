"""What a run would do is told before, and about how long it takes."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from atd import outlook
from atd.config import load
from atd.errors import UserError
from atd.evaluation.probes import PROBE_PASSES
from atd.planning import forecast, pace


@pytest.fixture
def make(tiny_yaml, tmp_path):
    return lambda *overrides: load(tiny_yaml, [f"run.dir={tmp_path / 'run'}", *overrides])


def test_every_stage_that_takes_time_has_seconds(make, tmp_path):
    seconds = forecast.forecast(make())
    assert seconds.keys() == {"helper", "pretrain", "atd", "evaluate"}
    assert all(0 < value.seconds < 600 for value in seconds.values())
    assert forecast.forecast(make("atd.features=pixels")).keys() == {"atd", "evaluate"}
    assert not (tmp_path / "run").exists()


def test_more_work_takes_longer(make, monkeypatch):
    monkeypatch.setattr(pace, "_timed", lambda *_: 0.01)
    monkeypatch.setattr(pace, "seconds_per_step", lambda *_: 0.001)
    ten = "evaluate.steps=10"
    one = forecast.forecast(make("atd.epochs=2", "evaluate.baselines=[]", ten))
    two = forecast.forecast(make("atd.epochs=6", "evaluate.baselines=[msp]", ten))
    assert two["atd"].seconds == pytest.approx(3 * one["atd"].seconds)
    assert two["evaluate"].seconds == pytest.approx(2 * one["evaluate"].seconds)
    # 80 ID images less a tenth in batches of 16; 8 held-out images and up to 512 outliers are
    # attacked in 10 steps after each epoch; 20 ID and 20 OOD images in the test, and the checks
    assert one["atd"].seconds == pytest.approx(0.01 * 64 * 2 + 2 * 0.001 * (8 + 512) * 10)
    attacks, checks = 40 * (11 + 2 * 10) / 3, 40 * PROBE_PASSES / 2
    assert one["evaluate"].seconds == pytest.approx(0.001 * (attacks + checks))
    certified = make(
        "evaluate.certify=true", "evaluate.certify_draws=300", "evaluate.baselines=[]", ten
    )
    more = forecast.forecast(certified)["evaluate"].seconds - one["evaluate"].seconds
    assert more == pytest.approx(0.001 * 40 * 100)
    assert "certificate by 300 noisy copies" in "".join(outlook.plan_of(certified))


def test_few_images_are_told_to_be_passed_through_more_often(make, monkeypatch):
    monkeypatch.setattr(pace, "_timed", lambda *_: 0.01)
    monkeypatch.setattr(pace, "seconds_per_step", lambda *_: 0.0)
    config = make("atd.min_steps=100")
    assert forecast.forecast(config)["atd"].seconds == pytest.approx(0.01 * 16 * 100)
    lines = outlook.plan_of(config)
    (line,) = [line for line in lines if line.startswith("atd: ")]
    assert line.endswith(", 100 steps instead of 8, for the images are few, about 16 s")
    assert re.search(r"about \d+ s, and \d+\.\d GB of memory", lines[-1])


def test_the_first_step_alone_is_never_the_measure(monkeypatch):
    """It sets things up, and on a busy machine that takes many times as long."""
    clock = iter([0.0, 60.0, 60.0, 60.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    task = SimpleNamespace(batches=lambda _: iter(range(4)), step=lambda *_: None)
    assert pace._step_seconds(task) == 0.5


def test_what_is_done_is_said_and_not_counted(tiny_run):
    lines = outlook.plan_of(tiny_run.config)
    done = [line.split(":")[0] for line in lines if line.endswith(", done")]
    assert done == ["helper", "pretrain", "atd"]


@pytest.mark.parametrize("option", ["data.id=folder:nowhere", "data.ood_test=[cifar10]"])
def test_what_cannot_be_told_is_not_guessed_and_nothing_is_downloaded(make, option, tmp_path):
    config = make(option, f"data.root={tmp_path}")
    with pytest.raises(UserError):
        forecast.forecast(config)
    assert "nobody can tell yet" in outlook.plan_of(config)[-1]


def test_several_processes_tell_no_times(make, monkeypatch):
    """They would stop timing at different steps, and wait for each other in an exchange."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(forecast, "measure_pace", None)
    lines = outlook.plan_of(make())
    assert lines[-1].startswith("in all: nobody can tell yet (no times are told by several")
    assert not any("about" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (75, "75 s"), (400, "7 min"), (36000, "10.0 h")]
)
def test_durations_have_no_more_figures_than_they_deserve(seconds, words):
    assert forecast.words(seconds) == words

"""Scalars of steps: fetched rarely and together, averaged over processes, none lost."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from atd.training.logbook import Logbook
from atd.training.meter import Meter
from atd.training.stopwatch import Stopwatch, exchanging


class Others:
    """The second of three processes; the others have other values, and are asked so often."""

    count, rank, is_main, device = 3, 1, False, torch.device("cpu")

    def __init__(self, first_bad=(100, 100)):
        self.first_bad, self.asked = first_bad, []

    def mean(self, values):
        self.asked.append("mean")
        assert values.dtype == torch.float64
        return values * 2

    def gather(self, values):
        self.asked.append("gather")
        return [self.first_bad[0], *values, self.first_bad[1]]


class Lines:
    """A TensorBoard writer's place."""

    def __init__(self):
        self.names = []

    def add_scalar(self, name, value, step):
        self.names.append(name)


@pytest.fixture
def make(tmp_path, processes):
    def meter(among=processes, steps_per_epoch=4):
        task = SimpleNamespace(stage="toy", batch_size=10, steps_per_epoch=steps_per_epoch)
        logbook = Logbook(tmp_path)
        logbook._writer = Lines()
        return Meter(task, among, logbook)

    return meter


def lines(folder):
    file = folder / "stats.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def record(meter, steps, loss=float):
    for step in steps:
        value = torch.tensor(loss(step))
        meter.record(step, {"loss": value, "other": value.double() + 1})


def test_nothing_is_fetched_or_written_before_a_flush(make, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError

    meter = make()
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "__float__", "__bool__"):
            patch.setattr(torch.Tensor, name, never)
        record(meter, [1, 2, 3])
    assert lines(tmp_path) == []
    assert meter.flush() == ""
    assert [(line["step"], line["loss"], line["other"]) for line in lines(tmp_path)] == [
        (1, 1.0, 2.0),
        (2, 2.0, 3.0),
        (3, 3.0, 4.0),
    ]
    assert [line["images"] for line in lines(tmp_path)] == [10, 20, 30]
    assert [line["epoch"] for line in lines(tmp_path)] == [0.25, 0.5, 0.75]


def test_flushing_often_or_once_gives_the_same(make, tmp_path):
    often, once = make(), make()
    for step in range(1, 8):
        record(often, [step])
        often.flush()
    first = lines(tmp_path)
    (tmp_path / "stats.jsonl").unlink()
    record(once, range(1, 8))
    once.flush()
    times = {"seconds", "images_per_second", "seconds_data", "seconds_communication"}
    assert [{k: v for k, v in line.items() if k not in times} for line in lines(tmp_path)] == [
        {k: v for k, v in line.items() if k not in times} for line in first
    ]
    assert often.epoch_means() == once.epoch_means() == {"loss": 4.0, "other": 5.0}
    assert once.epoch_means() == {}


def test_every_step_counts_and_a_twentieth_is_logged(make, tmp_path):
    meter = make(steps_per_epoch=60)
    record(meter, range(1, 61))
    assert meter.flush() == ""
    assert [line["step"] for line in lines(tmp_path)] == list(range(3, 61, 3))
    assert meter.epoch_means()["loss"] == pytest.approx(30.5)


def test_one_exchange_a_flush_and_none_without_steps(make, tmp_path):
    others = Others()
    meter = make(others)
    assert meter.flush() == ""
    record(meter, [1, 2, 3])
    assert meter.flush() == meter.flush() == ""
    assert others.asked == ["mean"]
    assert [line["loss"] for line in lines(tmp_path)] == [2.0, 4.0, 6.0]
    assert meter.latest == {"loss": 6.0, "other": 8.0}


@pytest.mark.parametrize(
    ("others", "step", "rank"), [((9, 9), 3, 1), ((2, 9), 2, 0), ((9, 2), 2, 2)]
)
def test_the_first_loss_that_is_not_finite_is_named_and_not_logged(
    make, tmp_path, others, step, rank
):
    meter = make(Others(others))
    record(meter, [1, 2, 3, 4], lambda step: float("nan") if step >= 3 else step)
    assert meter.flush() == f"the loss was not finite at step {step} on rank {rank} of 3"
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_what_else_is_not_finite_does_not_stop(make):
    meter = make()
    meter.record(1, {"other": torch.tensor(float("nan")), "loss": torch.tensor(1.0)})
    assert meter.flush() == ""


def test_lines_tell_how_fast_steps_are_and_what_they_wait_for(make, tmp_path, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)

    def batches():
        for _ in range(9):
            clock.now += 0.5
            yield None

    meter = make(steps_per_epoch=60)
    for step, _ in enumerate(meter.waited_for(batches()), 1):
        with exchanging:
            clock.now += 0.25
        clock.now += 1.25
        record(meter, [step])
        if step == 4:  # a validation, which does not count
            clock.now += 1000
            meter.restart()
    meter.flush()
    for line in lines(tmp_path):
        assert line["images_per_second"] == 5.0
        assert line["seconds_data"] == 0.5
        assert line["seconds_communication"] == 0.25
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9]
    assert "toy/images_per_second" in meter.logbook._writer.names


def test_a_flush_is_due_after_a_second(make, monkeypatch):
    meter = make()
    now = meter._flushed
    monkeypatch.setattr("time.monotonic", lambda: now)
    for later, due in ((0.9, False), (1.1, True)):
        monkeypatch.setattr("time.monotonic", lambda later=later: now + later)
        assert meter.is_due() is due
    meter.flush()
    assert not meter.is_due()


def test_a_stopwatch_adds_up():
    watch = Stopwatch()
    for _ in range(2):
        with watch:
            pass
    first = watch.seconds
    assert first > 0
    with watch:
        pass
    assert watch.seconds > first

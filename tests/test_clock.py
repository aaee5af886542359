"""The time of a run counts over all commands that go on with it, killed ones too."""

from __future__ import annotations

import os

import pytest

from atd.clock import Clock


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Starts a clock at a time."""
    (tmp_path / "state").mkdir()
    now = [0.0]
    monkeypatch.setattr("time.time", lambda: now[0])

    def at(seconds, write=None):
        now[0] = seconds
        if write is not None:
            file = tmp_path / write
            file.touch()
            os.utime(file, (seconds, seconds))
        return Clock(tmp_path)

    return at


def test_time_goes_on_after_a_pause(run):
    clock = run(1000.0)
    clock.start()
    run(1300.0, write="stats.jsonl")
    assert clock.spent == 300
    later = run(9000.0)
    later.start()
    assert later.spent == 300
    run(9050.0, write="state/atd.safetensors")
    assert later.spent == 350
    last = run(9999.0)
    last.start()
    assert last.spent == 350


def test_a_stage_is_fitted_once(run):
    clock = run(0.0)
    clock.start()
    assert clock.settled == []
    clock.settle("atd")
    clock.settle("evaluate")
    again = run(10.0)
    again.start()
    assert again.settled == ["atd", "evaluate"]


def test_what_left_nothing_does_not_count(run):
    first = run(0.0)
    first.start()
    first.settle("atd")
    run(300.0, write="stats.jsonl")
    again = run(310.0)
    again.start(anew=True)
    assert (again.spent, again.settled) == (0.0, [])
    later = run(400.0)
    later.start()
    assert later.settled == []


@pytest.mark.parametrize("text", ["", "[]", '{"began": "x"}', "{"])
def test_a_damaged_note_counts_as_none(run, tmp_path, text):
    (tmp_path / "state" / "clock.json").write_text(text)
    clock = run(50.0)
    clock.start()
    assert (clock.spent, clock.settled) == (0.0, [])

"""A resumed run is the run that was never stopped, whatever became of its newest state."""

from __future__ import annotations

from collections import Counter

import pytest
from descent import EPOCH, Descent, lines, same, stop_at

from atd.errors import Interrupted, UserError
from atd.training.checkpoint import load_state
from atd.training.loop import is_finished


@pytest.mark.parametrize("step", [0, 1, 3, 4, 6, 10, 11])
@pytest.mark.parametrize("selections", [(1, 2, 3), (3, 1, 2)])
def test_an_interrupted_run_ends_as_if_it_had_not_been(train, tmp_path, step, selections):
    whole = train(Descent(selections), "whole")
    with pytest.raises(Interrupted, match=f"saved at step {step + 1} of 12"):
        train(Descent(selections, stop_at(step)), "stopped")
    resumed = train(Descent(selections), "stopped")
    assert resumed.seen == list(range(step + 1, 12))
    assert same(whole.weights(), resumed.weights())
    assert lines(tmp_path / "whole") == lines(tmp_path / "stopped")


def test_a_killed_run_goes_on_from_its_last_epoch_and_logs_nothing_twice(train, tmp_path):
    def killed(step):
        if step == 6:
            raise RuntimeError("killed")

    whole = train(Descent(), "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(Descent(before_step=killed), "killed")
    with (tmp_path / "killed" / "stats.jsonl").open("a") as file:
        file.write('{"stage": "toy", "st')  # a line cut off in the middle
    resumed = train(Descent(), "killed")
    assert resumed.seen == list(range(4, 12))
    assert same(whole.weights(), resumed.weights())
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")
    kinds = Counter((entry["step"], "loss" in entry) for entry in lines(tmp_path / "killed"))
    assert set(kinds.values()) == {1}
    assert {step for step, is_loss in kinds if is_loss} == set(range(1, 13))


def test_a_resume_leaves_the_lines_of_other_stages_alone(train, tmp_path):
    train(Descent())
    other = Descent()
    other.stage = "other"
    train(other)
    assert Counter(entry["stage"] for entry in lines(tmp_path / "run")) == {"toy": 15, "other": 15}


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, lambda file: file.unlink()])
@pytest.mark.parametrize("step", [5, 9, 11])
def test_a_damaged_newest_state_gives_way_to_the_one_before(train, tmp_path, capsys, damage, step):
    whole = train(Descent(), "whole")
    with pytest.raises(Interrupted):
        train(Descent(before_step=stop_at(step)))
    damage(tmp_path / "run" / "toy.safetensors")
    capsys.readouterr()
    resumed = train(Descent())
    said = capsys.readouterr().out.splitlines()[0]
    assert "toy.safetensors: " in said
    assert "toy.1.safetensors" in said
    assert resumed.seen == list(range(step // EPOCH * EPOCH, 12))
    assert same(whole.weights(), resumed.weights())
    assert lines(tmp_path / "whole") == lines(tmp_path / "run")


def test_a_finished_stage_whose_state_is_damaged_is_finished_again(train, tmp_path):
    first = train(Descent((1, 3, 2)))
    flip(tmp_path / "run" / "toy.safetensors")
    again = train(Descent((1, 3, 2)))
    assert again.seen == []
    assert same(first.weights(), again.weights())
    assert is_finished(tmp_path / "run", "toy")


def test_damaged_states_are_the_users_to_delete_when_none_is_left(train, tmp_path):
    train(Descent())
    for file in (tmp_path / "run").glob("*.safetensors"):
        cut(file)
    with pytest.raises(UserError, match="all 2 training states are damaged; delete them"):
        train(Descent())
    (tmp_path / "run" / "toy.1.safetensors").unlink()
    with pytest.raises(UserError, match="delete it"):
        train(Descent())


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_states_are_kept_as_asked_for(train, tmp_path, keep):
    train(Descent(), keep=keep)
    states = sorted(tmp_path.glob("run/toy*"), key=lambda file: len(file.name))
    assert len(states) == keep
    steps = {load_state(file)["step"] for file in states}
    assert steps == ({12} if keep < 3 else {8, 12})


@pytest.mark.parametrize(("minutes", "step"), [(0, 7), (1, 4)])
def test_a_killed_run_loses_the_steps_since_the_last_save_only(train, tmp_path, minutes, step):
    def killed(now):
        if now == 7:
            raise RuntimeError("killed")

    whole = train(Descent(), "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(Descent(before_step=killed), save_minutes=minutes)
    resumed = train(Descent())
    assert resumed.seen == list(range(step, 12))
    assert same(whole.weights(), resumed.weights())


def test_saves_within_an_epoch_ignore_changes_of_the_clock(train, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", iter(range(0, 10**9, 10**6)).__next__)
    steps = []
    task = Descent()
    state = task.state
    task.state = lambda: steps.append(task.seen[-1]) or state()
    train(task, save_minutes=1)
    assert steps == [3, 7, 11]


def test_a_spoilt_state_is_never_saved_between_epochs(train, tmp_path):
    spoilt = Descent(before_step=lambda step: float("nan") if step == 2 else None)
    spoilt.steps_per_epoch = 100  # the loss is looked at every fifth step otherwise
    with pytest.raises(UserError, match="not finite at step 3;"):
        train(spoilt, save_minutes=0)
    assert load_state(tmp_path / "run" / "toy.safetensors")["step"] == 2


def test_a_full_disk_keeps_the_last_good_state(train, tmp_path, monkeypatch):
    whole = train(Descent(), "whole")
    with monkeypatch.context() as patch:

        def fill(step):
            if step == 6:
                error = OSError(28, "No space left on device")
                patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(error))

        with pytest.raises(UserError, match="No space left"):
            train(Descent(before_step=fill))
    assert load_state(tmp_path / "run" / "toy.safetensors")["step"] == 4
    assert same(train(Descent()).weights(), whole.weights())


def test_a_state_of_another_version_is_one_clear_line(train, tmp_path):
    with pytest.raises(Interrupted):
        train(Descent((1, 2, 3), stop_at(6)))
    newer = Descent()
    newer.load = lambda state: state["something new"]
    with pytest.raises(UserError, match=r"toy.safetensors: .* \('something new'\); delete it"):
        train(newer)
    assert is_finished(tmp_path / "run", "toy") is False
    train(Descent())

"""The loop keeps the best epoch, and stops where a loss or another process is lost."""

from __future__ import annotations

import signal

import pytest
import torch
from descent import Descent, same, stop_at

from atd.errors import Interrupted, LostContact, UserError
from atd.training.checkpoint import load_state
from atd.training.logbook import Logbook
from atd.training.loop import is_finished, train_task


@pytest.mark.parametrize(
    ("selections", "best"), [((1, 3, 2), 2), ((1, 2, 3), 3), ((2, 2, 1), 1), ((0, 0, 0), 1)]
)
def test_the_best_epoch_is_kept_and_the_first_of_equals(train, selections, best):
    task = train(Descent(selections))
    assert same(task.weights(), task.after_epoch[best])
    assert len({tuple(w["weight"].flatten().tolist()) for w in task.after_epoch.values()}) == 3


def test_every_step_runs_once_in_order(train):
    assert train(Descent()).seen == list(range(12))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_handed_back(train, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted):
        train(Descent(before_step=stop_at(2, number)))
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 5, 11])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_state(train, tmp_path, bad, step):
    file = tmp_path / "run" / "toy.safetensors"
    if step > 0:
        with pytest.raises(Interrupted):
            train(Descent(before_step=stop_at(step - 1)))
    before = file.read_bytes() if step else None
    with pytest.raises(UserError) as error:
        train(Descent(before_step=lambda now: bad if now == step else None))
    assert f"not finite at step {step + 1};" in str(error.value)
    assert "\n" not in str(error.value)
    assert (file.read_bytes() if file.exists() else None) == before
    resumed = train(Descent())
    assert same(resumed.weights(), train(Descent(), "whole").weights())


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_loss_between_two_logged_steps_is_found_before_saving(train, tmp_path, interrupted):
    bad = 44 if interrupted else 58  # step 59 is the last of its epoch

    def before_step(step):
        if step == bad and interrupted:
            signal.raise_signal(signal.SIGINT)
        return float("nan") if step == bad else None

    task = Descent((1, 2), before_step)
    task.steps_per_epoch, task.steps = 59, 118  # logged every second step
    with pytest.raises(UserError, match=f"not finite at step {bad + 1};"):
        train(task)
    assert not (tmp_path / "run" / "toy.safetensors").exists()
    assert not task.after_epoch


def test_held_out_scores_that_are_not_finite_stop_too(train, tmp_path):
    with pytest.raises(UserError, match="held-out images were not finite after step 8"):
        train(Descent((1, float("nan"), 2)))
    assert load_state(tmp_path / "run" / "toy.safetensors")["step"] == 4


def test_a_finished_stage_is_not_run_again(train, tmp_path):
    assert not is_finished(tmp_path / "run", "toy")
    first = train(Descent((1, 3, 2)))
    assert is_finished(tmp_path / "run", "toy")

    def never(step):
        raise AssertionError

    again = train(Descent((1, 3, 2), never))
    assert same(first.weights(), again.weights())
    assert load_state(tmp_path / "run" / "toy.safetensors")["task"] is None


def test_an_unfinished_stage_is_not_finished(train, tmp_path):
    with pytest.raises(Interrupted):
        train(Descent(before_step=stop_at(11)))
    assert not is_finished(tmp_path / "run", "toy")


class TwoProcesses:
    """The main one of two processes; what happens to the other one is given."""

    count, rank, is_main, device = 2, 0, True, torch.device("cpu")

    def __init__(self, others_bad_step=None, lost_at=None):
        self.bad, self.lost_at, self.steps = others_bad_step, lost_at, 0

    def any(self, flag):
        self.steps += 1
        if self.steps == self.lost_at:
            raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
        return flag

    def gather(self, values):
        return [*values, values[0] if self.bad is None else self.bad]

    def mean(self, values):
        return values if self.bad is None else values * float("nan")

    def agree(self, value):
        return value

    def on_main(self, work):
        return work()

    def require_equal(self, state, stage, step):
        pass


@pytest.fixture
def silent_logbook():
    return Logbook(None)


def test_a_loss_that_another_rank_found_not_finite_names_step_and_rank(tmp_path, silent_logbook):
    processes = TwoProcesses(others_bad_step=1)
    with pytest.raises(UserError, match="not finite at step 1 on rank 1 of 2;"):
        train_task(Descent(), tmp_path, processes, silent_logbook)


def test_a_lost_rank_ends_the_stage_with_one_line(tmp_path, silent_logbook):
    with pytest.raises(LostContact, match="rank 0: lost contact with .* in toy at step 6") as lost:
        train_task(Descent(), tmp_path, TwoProcesses(lost_at=7), silent_logbook)
    assert "\n" not in str(lost.value)
    assert load_state(tmp_path / "toy.safetensors")["step"] == 4


def test_faults_of_ours_are_not_taken_for_lost_contact(tmp_path, silent_logbook):
    def wrong(step):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        train_task(Descent(before_step=wrong), tmp_path, TwoProcesses(), silent_logbook)


def test_a_dead_data_worker_is_named(train):
    def dies(step):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    with pytest.raises(UserError, match="data worker died in toy at step 0"):
        train(Descent(before_step=dies))


def test_warnings_and_progress_are_said(train, capsys):
    train(Descent())
    said = capsys.readouterr().out
    assert "warning: toy epoch 2: too low" in said
    assert "toy epoch 3: loss" in said

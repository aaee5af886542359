"""The loop keeps the best epoch, and a resumed run is the run that was never stopped."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest
import torch
from torch import nn

from atd.errors import Interrupted, UserError
from atd.training.checkpoint import load_state
from atd.training.logbook import Logbook
from atd.training.loop import fit, is_finished

EPOCH = 4


class Descent:
    """A noisy descent whose every step depends on the one before."""

    stage, batch_size, steps_per_epoch = "toy", 3, EPOCH

    def __init__(self, selections=(1.0, 2.0, 3.0), before_step=lambda step: None):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.steps = EPOCH * len(selections)
        self.selections, self.before_step = selections, before_step
        self.seen, self.after_epoch = [], {}

    def batches(self, start):
        for step in range(start, self.steps):
            yield torch.randn(3, 3, generator=torch.Generator().manual_seed(step))

    def step(self, step, batch):
        factor = self.before_step(step)
        self.seen.append(step)
        loss = self.model(batch).square().mean() * (1.0 if factor is None else factor)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "other": loss.detach() + 1}

    def validate(self, step, logbook):
        epoch = step // EPOCH
        self.after_epoch[epoch] = self.weights()
        return {"selection": self.selections[epoch - 1]}

    def warnings(self, means):
        return ["too low"] if means["loss"] < 1e9 else []

    def state(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def weights(self):
        return {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    def load_weights(self, weights):
        self.model.load_state_dict(weights)


@pytest.fixture
def train(tmp_path, processes):
    def run(task, name="run"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        logbook = Logbook(folder)
        logbook._writer = Silent()
        fit(task, folder, processes, logbook)
        return task

    return run


class Silent:
    """Stands in for TensorBoard, which takes seconds to import."""

    def add_scalar(self, *_):
        pass


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def stop_at(stopped_step, number=signal.SIGINT):
    def before_step(step):
        if step == stopped_step:
            signal.raise_signal(number)

    return before_step


def lines(folder):
    text = (folder / "stats.jsonl").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in entries]


@pytest.mark.parametrize(
    ("selections", "best"), [((1, 3, 2), 2), ((1, 2, 3), 3), ((2, 2, 1), 1), ((0, 0, 0), 1)]
)
def test_the_best_epoch_is_kept_and_the_first_of_equals(train, selections, best):
    task = train(Descent(selections))
    assert same(task.weights(), task.after_epoch[best])
    assert len({tuple(w["weight"].flatten().tolist()) for w in task.after_epoch.values()}) == 3


def test_every_step_runs_once_in_order(train):
    assert train(Descent()).seen == list(range(12))


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


def test_a_damaged_state_is_the_users_to_delete(train, tmp_path):
    train(Descent())
    file = tmp_path / "run" / "toy.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="delete it"):
        train(Descent())


def test_warnings_and_progress_are_said(train, capsys):
    train(Descent())
    said = capsys.readouterr().out
    assert "warning: toy epoch 2: too low" in said
    assert "toy epoch 3: loss" in said

"""The loop keeps the best epoch, and a resumed run is the run that was never stopped."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest
import torch
from torch import nn

from atd.errors import Interrupted, LostContact, UserError
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
    def run(task, name="run", **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        logbook = Logbook(folder)
        logbook._writer = Silent()
        fit(task, folder, processes, logbook, **options)
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


PACE = {"images_per_second", "seconds_data", "seconds_communication"}


def entries(folder):
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


def lines(folder):
    times = {"seconds", *PACE}
    return [{k: v for k, v in entry.items() if k not in times} for entry in entries(folder)]


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
        fit(Descent(), tmp_path, processes, silent_logbook)


def test_a_lost_rank_ends_the_stage_with_one_line(tmp_path, silent_logbook):
    with pytest.raises(LostContact, match="rank 0: lost contact with .* in toy at step 6") as lost:
        fit(Descent(), tmp_path, TwoProcesses(lost_at=6), silent_logbook)
    assert "\n" not in str(lost.value)
    assert load_state(tmp_path / "toy.safetensors")["step"] == 4


def test_faults_of_ours_are_not_taken_for_lost_contact(tmp_path, silent_logbook):
    def wrong(step):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        fit(Descent(before_step=wrong), tmp_path, TwoProcesses(), silent_logbook)


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

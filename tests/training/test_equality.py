"""Training does not depend on the number of processes, nor on its micro-batches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from equality_cases import (
    BATCH,
    CASES,
    RESUMED,
    STOP,
    diverged,
    ended,
    pretraining,
    resumed,
    train,
    train_on,
)
from norm_cases import NORMS, TOGETHER, normalise
from torch import nn

from atd.errors import UserError
from atd.training.checkpoint import load_state
from atd.training.global_norm import global_batch_statistics, normalises_over_batch
from atd.training.processes import Processes, micro_batches

EXACT = {"rtol": 0, "atol": 1e-9}
ROUGH = {"rtol": 0, "atol": 1e-3}
"""For float32: rounding turns the sign of a few vanishing gradients, in attacks and in Adam."""


@pytest.fixture(scope="module")
def alone(processes):
    """What one process ends with that works on whole batches."""
    found = {}

    def trained(case, dtype):
        if (case, dtype) not in found:
            task = CASES[case][0](processes, dtype, 1)
            start = {key: value.clone() for key, value in task.weights().items()}
            found[case, dtype] = train(task, processes)
            moved = [not torch.equal(value, start[key]) for key, value in task.weights().items()]
            assert any(moved)
        return found[case, dtype]

    return trained


def compare(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, **tolerance, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.dist
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_trains(pool, alone, case):
    for dtype, number in CASES[case][1]:
        expected = alone(case, dtype)
        first, second = pool(ended, case, dtype, number)
        compare(second, first, rtol=0, atol=0)
        if dtype == torch.float64:
            compare(first, expected, **EXACT)
            continue
        names = [key for key in expected if not key.startswith("scalar.") and "running" not in key]
        compare({key: first[key] for key in names}, {key: expected[key] for key in names}, **ROUGH)


@pytest.mark.dist
@pytest.mark.parametrize("case", RESUMED)
@pytest.mark.parametrize("begin", ["alone", "all"])
def test_a_state_goes_on_on_another_number_of_processes(pool, processes, tmp_path, case, begin):
    folders = tmp_path / "whole", tmp_path / "parted"
    pool(resumed, case, folders[1], begin)
    task = train_on(case, folders[0], processes)
    ends = [folder / f"{task.stage}.1.safetensors" for folder in folders]
    whole, parted = (dict(_flat(load_state(end))) for end in ends)
    assert whole["step"] == parted["step"] == task.steps > STOP
    assert whole["best_epoch"] == parted["best_epoch"]
    assert whole.keys() == parted.keys()
    for name, value in whole.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(parted[name], value, **EXACT, msg=name)


def _flat(node, name=""):
    if not isinstance(node, dict | list):
        yield name, node
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _flat(value, f"{name}.{key}" if name else str(key))


@pytest.mark.parametrize("case", [case for case, (_, ways) in CASES.items() if len(ways) == 3])
def test_parts_of_a_batch_train_what_the_whole_batch_trains(processes, alone, case):
    found = train(CASES[case][0](processes, torch.float64, 4), processes)
    compare(found, alone(case, torch.float64), **EXACT)


@pytest.mark.parametrize("case", ["hat, group norm", "imitate", "fine-tuned", "pixels"])
def test_no_pass_gets_more_images_than_the_device_takes(processes, case):
    task = CASES[case][0](processes, torch.float32, 4)
    sizes = []
    if hasattr(task, "model"):
        sides = 1
        task.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    else:
        passed = task.frozen_pass or task.detector
        sides, features = 2, passed.features
        passed.features = lambda x: (sizes.append(len(x)), features(x))[1]
    task.step(0, next(task.batches(0)))
    assert set(sizes) == {sides * BATCH // 4}


@pytest.mark.dist
@pytest.mark.parametrize(
    ("name", "together"),
    [(name, False) for name in NORMS] + [(name, True) for name in TOGETHER],
)
def test_batch_normalisation_over_processes_is_that_of_the_whole_batch(
    pool, processes, name, together
):
    expected = normalise(processes, name)
    halves = pool(normalise, name, together)
    whole = {
        key: torch.cat([half[key] for half in halves])
        if key.startswith(("out", "input", "evaluated"))
        else halves[0][key]
        for key in halves[0]
    }
    tolerance = {"rtol": 1e-11, "atol": 1e-12}
    if name == "float32":
        tolerance = {"rtol": 1e-4, "atol": 1e-4}
    elif name == "bfloat16":
        tolerance = {"rtol": 0.02, "atol": 0.02}
    compare(whole, expected, equal_nan=True, **tolerance)
    both = {key for key in expected if key.startswith(("running", "gradient"))}
    compare(*({key: half[key] for key in both} for half in halves), equal_nan=True, rtol=0, atol=0)
    if name == "not finite":
        assert whole["out 0"][:, 0].isnan().all()
        assert whole["out 0"][:, 1:].isfinite().all()


@pytest.mark.dist
def test_processes_that_differ_are_found_and_named(pool):
    messages = pool(diverged)
    assert messages[0] == messages[1]
    assert "pretrain: at step 7 process 1 differs from process 0 in 1 of" in messages[0]
    assert "(model.head.bias for one)" in messages[0]
    assert "\n" not in messages[0]


def test_one_process_agrees_with_itself_and_normalises_as_always(processes):
    processes.require_equal({"weights": torch.zeros(2)}, "atd", 1)
    values, layer = torch.randn(8, 3), nn.BatchNorm1d(3)
    with global_batch_statistics(1):
        assert torch.equal(layer(values), nn.BatchNorm1d(3)(values))


def test_timm_networks_count_as_normalising_over_the_batch():
    timm = pytest.importorskip("timm")
    assert normalises_over_batch(timm.create_model("resnet10t"))
    assert not normalises_over_batch(timm.create_model("convnext_atto"))


def test_turns_cover_everything_once_and_may_be_none():
    processes = SimpleNamespace(count=3)
    for count in (0, 1, 2, 3, 10):
        found = []
        for processes.rank in range(3):
            turns = Processes.turns(processes, count, size=2)
            assert all(1 <= len(part) <= 2 for part in turns)
            found += [position for part in turns for position in part.tolist()]
        assert sorted(found) == list(range(count))


@pytest.mark.parametrize(
    ("share", "limit", "count"),
    [(8, 0, 1), (8, 8, 1), (8, 9, 1), (8, 4, 2), (8, 5, 2), (8, 1, 8), (9, 3, 3)],
)
def test_a_share_is_worked_off_in_as_few_equal_parts_as_fit(share, limit, count):
    assert micro_batches(slice(16, 16 + share), limit, "atd.batch_size") == count


def test_a_share_that_does_not_divide_is_the_users_to_change():
    with pytest.raises(UserError, match=r"100 images .* atd.batch_size .*use run.device_batch=25"):
        micro_batches(slice(0, 100), 48, "atd.batch_size")
    assert micro_batches(slice(0, 100), 25, "atd.batch_size") == 4


def test_batch_normalisation_is_not_trained_in_parts(processes):
    with pytest.raises(UserError) as caught:
        pretraining("hat", "batch norm", processes, torch.float32, 2)
    message = str(caught.value)
    for word in ("run.device_batch", f"ghost_batch={BATCH // 2}", "start 2 processes", "timm:"):
        assert word in message

"""Ghost batches: how a batch is divided, what a step of them computes, on how many processes."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from equality_cases import BATCH, images, pretraining, train
from hypothesis import assume, given
from hypothesis import strategies as st
from pool import Pool
from torch import nn
from torch.nn import functional as F

from atd.errors import UserError
from atd.training.ghost_batches import GhostBatches, RunningStatistics, ghost_batches
from atd.training.processes import micro_batches
from atd.training.stream import Stream

NETWORK = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def stream(batch, processes=1, device_batch=0):
    share = slice(0, batch // processes)
    number = micro_batches(share, device_batch, "pretrain.batch_size")
    return Stream(images("id"), batch, share, 0, "id", "none", micro_batches=number)


@pytest.mark.parametrize(
    ("batch", "processes", "size", "device_batch", "expected"),
    [
        (64, 1, 0, 0, GhostBatches(1, 1)),
        (64, 4, 0, 0, GhostBatches(1, 4)),
        (64, 4, 64, 0, GhostBatches(1, 4)),
        (64, 4, 32, 0, GhostBatches(1, 2)),
        (64, 4, 16, 0, GhostBatches(1, 1)),
        (64, 4, 8, 0, GhostBatches(2, 1)),
        (64, 2, 8, 16, GhostBatches(4, 1)),
        (64, 2, 16, 16, GhostBatches(2, 1)),
        (24, 1, 32, 0, GhostBatches(1, 1)),
    ],
)
def test_every_ghost_batch_is_one_pass_of_one_or_several_processes(
    batch, processes, size, device_batch, expected
):
    given_stream = stream(batch, processes, device_batch)
    assert ghost_batches(NETWORK, given_stream, size, processes, "pretrain") == expected


def test_without_batch_normalisation_only_the_device_counts():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2))
    assert ghost_batches(network, stream(64, 2, 16), 7, 2, "pretrain") == GhostBatches(2, 1)


@pytest.mark.parametrize(
    ("batch", "processes", "size", "device_batch", "words"),
    [
        (64, 1, 24, 0, ["pretrain.ghost_batch=24", "64 images", "use pretrain.ghost_batch=16"]),
        (96, 2, 32, 0, ["48 for each of 2 processes", "use pretrain.ghost_batch=24"]),
        (6, 2, 5, 0, ["3 for each of 2", "use pretrain.ghost_batch=3"]),
        (10, 2, 3, 0, ["5 for each of 2", "use pretrain.ghost_batch=0"]),
        (
            64,
            2,
            0,
            8,
            [
                "run.device_batch",
                "in 4 micro-batches",
                "ghost_batch=8",
                "start 8 processes",
                "timm:",
            ],
        ),
        (64, 2, 16, 8, ["statistics of 16 images", "ghost_batch=8", "start 8 processes"]),
    ],
)
def test_what_does_not_divide_is_the_users_to_change(batch, processes, size, device_batch, words):
    with pytest.raises(UserError) as caught:
        ghost_batches(NETWORK, stream(batch, processes, device_batch), size, processes, "the stage")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@given(
    batch=st.integers(2, 96),
    processes=st.integers(1, 8),
    size=st.integers(2, 96),
)
def test_what_a_refusal_names_is_accepted(batch, processes, size):
    batch *= processes
    try:
        divided = ghost_batches(NETWORK, stream(batch, processes), size, processes, "pretrain")
    except UserError as error:
        size = int(str(error).rsplit("=", 1)[1])
        divided = ghost_batches(NETWORK, stream(batch, processes), size, processes, "pretrain")
    each, size = batch // processes, min(size or batch, batch)
    assert divided.micro_batches * size == each * divided.span


@given(
    share=st.integers(2, 48),
    processes=st.integers(1, 4),
    size=st.integers(2, 96),
    device_batch=st.integers(1, 16),
)
def test_whatever_a_refusal_for_a_small_device_names_is_accepted(
    share, processes, size, device_batch
):
    batch = share * processes

    def tried(**changes):
        at = {"processes": processes, "device_batch": device_batch, "size": size, **changes}
        of = stream(batch, at["processes"], at["device_batch"])
        return ghost_batches(NETWORK, of, at["size"], at["processes"], "pretrain")

    try:
        tried()
        text = ""
    except UserError as error:
        text = str(error)
    assume(text.startswith("run.device_batch: "))
    keys = {
        "size": r"set pretrain.ghost_batch=(\d+)",
        "processes": r"start (\d+) processes",
        "device_batch": r"set run.device_batch=(\d+)",
    }
    named = {key: int(match[1]) for key, rule in keys.items() if (match := re.search(rule, text))}
    assert "device_batch" in named
    for key, value in named.items():
        tried(**{key: value})


def test_a_step_is_the_mean_over_ghost_batches_of_what_torch_computes(processes):
    task = pretraining("standard", "ghost batches", processes, torch.float64, 1)
    (pixels, labels), *_ = task.batches(0)
    reference, size = copy.deepcopy(task.model), task.config.ghost_batch
    passes = [copy.deepcopy(reference).train() for _ in range(len(pixels) // size)]
    for network, part, names in zip(passes, pixels.split(size), labels.split(size), strict=True):
        F.cross_entropy(network(part), names).backward()
    task.step(0, (pixels, labels))
    for name, parameter in task.model.named_parameters():
        expected = torch.stack([dict(p.named_parameters())[name].grad for p in passes]).mean(0)
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=1e-12)
    for name, buffer in task.model.named_buffers():
        found = torch.stack([dict(p.named_buffers())[name] for p in passes])
        if name.endswith("num_batches_tracked"):
            assert (found == buffer).all()
        else:
            torch.testing.assert_close(buffer, found.mean(0), rtol=0, atol=1e-12)
            assert not name.endswith("running_mean") or (found[0] != found[1]).any()


def test_running_statistics_do_not_depend_on_the_order_of_the_parts():
    networks = [copy.deepcopy(NETWORK).double() for _ in range(2)]
    values = torch.randn(4, 3, 1, 5, 5, dtype=torch.float64)
    for network, order in zip(networks, (values, values.flip(0)), strict=True):
        for part in RunningStatistics(network).mean_over(order):
            assert network(part).requires_grad
    one, two = (network[1].state_dict() for network in networks)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-15)
    assert one["num_batches_tracked"] == 1


def trained(processes, objective, dtype):
    """What a training ends with, of whose ghost batches two processes have one each."""
    ghost_batch = BATCH // 2
    return train(
        pretraining(objective, "ghost batches", processes, dtype, 1, ghost_batch), processes
    )


@pytest.mark.dist
@pytest.mark.parametrize("objective", ["standard", "hat"])
def test_two_processes_train_the_same_bits_as_one(pool, processes, objective):
    expected = trained(processes, objective, torch.float32)
    for found in pool(trained, objective, torch.float32):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if name == "scalar.loss":  # summed in another precision, for the log
                torch.testing.assert_close(found[name], value)
            else:
                assert torch.equal(found[name], value), name


@pytest.mark.dist
def test_four_processes_share_two_ghost_batches(processes, tmp_path):
    expected = trained(processes, "hat", torch.float64)
    four = Pool(tmp_path, 4)
    try:
        first, *others = four(trained, "hat", torch.float64)
    finally:
        four.close()
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-9, msg=name)
        assert all(torch.equal(other[name], first[name]) for other in others)

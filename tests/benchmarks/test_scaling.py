"""The scaling benchmark counts and adds up what it says it does."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from atd.config import load
from atd.training.processes import Processes
from benchmarks.scaling.page import page
from benchmarks.scaling.plan import (
    CLUSTERS,
    Assumptions,
    Cluster,
    Counts,
    arithmetic,
    count,
    stages,
)
from benchmarks.scaling.single import decode_rate, streaming_memory
from benchmarks.scaling.tasks import Work, WorkSize
from benchmarks.scaling.team import Team

TINY = WorkSize(width=4, image_size=8, steps=2, ghost_batch=2)
COUNTS = {
    "helper": Counts(3e9, 0.0, 40_000_000, 80),
    "hat": Counts(10e9, 2e9, 40_000_000, 200),
    "atd": Counts(1e9, 2e9, 8_000_000, 0),
    "evaluation": Counts(3e9, 2e9, 0, 0),
}
STEPS = dict.fromkeys(COUNTS, 10)
GIVEN = Assumptions()
ENDLESS = 1e12
"""A decoding rate that never limits anything."""


@pytest.fixture(scope="module")
def forward():
    """Operations of one image's forward pass."""
    work = Work(Processes("cpu"), TINY, 2)
    model = work.hat.model.eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.rand(1, 3, 8, 8))
    return counted.get_total_flops()


def test_a_step_is_counted_in_forward_passes(forward):
    helper, hat, atd, evaluation = (
        count(name, TINY, 2) for name in ("helper", "hat", "atd", "evaluation")
    )
    # Backward twice the forward; the image needs no gradient, which the first layer saves.
    assert 2.9 * forward < helper.base < 3 * forward
    assert helper.attack == 0
    # Clean output, helper's labels, three passes that are trained.
    assert 10.7 * forward < hat.base < 11 * forward
    assert hat.attack == pytest.approx(2 * forward, rel=0.02)
    # The discriminator comes on top, which in so small a network counts.
    assert atd.attack == evaluation.attack > hat.attack
    assert atd.base > forward
    assert (evaluation.gradients, evaluation.norms) == (0, 0)


def test_operations_grow_by_the_same_amount_with_every_attack_step():
    counted = count("hat", TINY, 2)
    three = count("hat", dataclasses.replace(TINY, image_size=16), 2)
    assert counted.flops(5) - counted.flops(4) == counted.attack
    assert three.attack > 3 * counted.attack


def test_gradients_and_statistics_are_those_of_the_model():
    counted = count("hat", TINY, 2)
    model = Work(Processes("cpu"), TINY, 2).hat.model
    assert counted.gradients == 4 * sum(parameter.numel() for parameter in model.parameters())
    layers = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert counted.norms == 2 * len(layers)


def test_twice_the_gpus_halve_the_computation_and_not_the_exchange():
    one, two = (
        stages(COUNTS, Cluster(1, gpus, 256), STEPS, ENDLESS, GIVEN)["hat"] for gpus in (4, 8)
    )
    assert two.compute == pytest.approx(one.compute / 2)
    assert two.reduce > one.reduce
    assert one.rate < two.rate < 2 * one.rate
    assert two.efficiency < one.efficiency < 1


def test_a_stage_is_as_fast_as_its_images_are_decoded():
    free, starved = (
        stages(COUNTS, CLUSTERS[0], STEPS, rate, GIVEN)["hat"] for rate in (ENDLESS, 1.0)
    )
    assert free.rate == pytest.approx(free.images / free.seconds)
    assert starved.rate == GIVEN.cores
    assert starved.hours(GIVEN.cores * 3600) == pytest.approx(1.0)


def test_the_time_of_a_step_follows_from_the_assumptions():
    stage = stages(COUNTS, Cluster(4, 8, 320), STEPS, ENDLESS, GIVEN)["hat"]
    assert stage.compute == pytest.approx(10 * 30e9 / (GIVEN.peak * GIVEN.share))
    ring = 2 * 7 / 8 * 40e6 / GIVEN.link + 2 * 3 / 4 * 40e6 / GIVEN.network
    assert stage.reduce == pytest.approx(ring + GIVEN.network_latency)
    assert stage.norms == pytest.approx(200 * GIVEN.network_latency)


def test_pictures_are_decoded():
    assert decode_rate(0.05) > 1


@pytest.mark.dist
def test_two_processes_tell_what_they_exchange():
    team = Team(2, TINY)
    try:
        hat, alone = team.do("hat", 4), team.do("reduce-hat", 4)
        ghosts = team.do("hat_ghosts", 4)
        evaluation = team.do("evaluation", 4)
    finally:
        team.close()
    passes = Work(Processes("cpu"), TINY, 4).norm_passes("hat")
    assert hat["images"] == 4
    # One forward and one backward for each, and the gradients.
    assert hat["exchanges"]["calls"] == 2 * passes + 1
    assert hat["exchanges"]["bytes"] > alone["bytes"] == count("hat", TINY, 2).gradients
    assert 0 < hat["exchanges"]["seconds"] < hat["seconds"]
    assert hat["cpu"] > 0
    # The running statistics, two numbers a channel, go with the gradients.
    assert ghosts["exchanges"]["calls"] == 1
    assert 0 < ghosts["exchanges"]["bytes"] - alone["bytes"] < 0.1 * alone["bytes"]
    assert evaluation["exchanges"]["calls"] == 0


def test_memory_is_that_of_the_process_that_streams():
    few = streaming_memory(40, 64)
    assert 50 < few["worker_mb"] < few["process_mb"] < 4000
    assert 20 < few["held_mb"] < few["process_mb"]


def test_the_page_tells_what_was_found():
    spread = {"median": 1.83, "low": 1.8, "high": 1.9, "count": 5}
    sides = ("one", "two", "separate", "speedup", "of_separate")
    item = dict.fromkeys(sides, spread) | {
        "cpu": {"one": 4.0, "two": 4.4, "separate": 4.2},
        "exchanges": {"calls": 7, "bytes": 2_000_000, "seconds": 0.1, "share": 0.05},
    }
    reduced = {"seconds": 0.01, "bytes": 3_000_000}
    config = load("configs/cifar10.yaml")
    planned = {
        "recipe": "configs/cifar10.yaml",
        "epochs": {"helper": 1, "hat": 2, "atd": 3},
        "assumptions": dataclasses.asdict(GIVEN),
        "decode_rate": 200.0,
        "exchanges_per_norm": 2,
        "counts": {name: dataclasses.asdict(counted) for name, counted in COUNTS.items()},
        "rows": arithmetic(COUNTS, config, 200.0, GIVEN),
    }
    effort = {
        "size": dataclasses.asdict(TINY),
        "planned": dataclasses.asdict(TINY),
        "batch": 4,
        "rounds": 5,
        "streamed": 16000,
    }
    memory = {"images": 1000, "decoded_mb": 12.0, "process_mb": 600.0, "worker_mb": 400.0}
    memory |= {"held_mb": 320.0}
    more = {"images": 3000, "process_mb": 602.0, "held_mb": 321.0}
    found = {
        "effort": effort,
        "startup": {"1": spread, "2": spread},
        "streaming": [memory, memory | more],
        "throughput": {name: item for name in ("hat_ghosts", "hat", "atd", "evaluation")}
        | {"reduce": {"hat_ghosts": reduced, "hat": reduced, "atd": reduced}},
        "plan": planned,
        "provenance": {
            "commit": "abc",
            "date": "today",
            "hardware": "CPU",
            "versions": {"torch": "2"},
            "seconds": 10.0,
        },
    }
    text = page(found)
    ratio = "1.83 (1.80 to 1.90)"
    assert (
        f"| HAT step, whole batch | 1.83 | 1.83 | 1.83 | {ratio} | {ratio} | 4.00 / 4.40 / 4.20 |"
        in text
    )
    assert "| HAT step, ghost batches | 3.00 | 10.0 | 7 | 2.00 | 100 | 5.0 |" in text
    assert "grows by 1.00 KB an image and what is held by\n0.50 KB" in text
    assert "| 3,000 | 12 | 602 | 400 | 321 |" in text
    hours = planned["rows"][0]["hours"]
    assert f"**{sum(hours.values()):.2f}**" in text
    assert "not a measurement" in text

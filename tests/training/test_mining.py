"""Outliers are mined by the network's own score, the same on any number of processes."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from atd.config import PretrainConfig
from atd.data.sampler import generator_for
from atd.training.mining import MinedOutliers

BATCH, EPOCH = 4, 3


@pytest.fixture
def outliers(random_images):
    return random_images("outlier", 40)


@pytest.fixture
def make(processes, outliers, stream_of):
    def mined(**options):
        config = PretrainConfig(**options)
        return MinedOutliers(stream_of(outliers, BATCH), EPOCH, config, processes)

    return mined


def brightness(images):
    return images.mean((1, 2, 3))


def shown(batches):
    return [sorted(brightness(images).tolist()) for images, _ in batches]


def test_an_epoch_trains_on_those_behind_the_quantile(make, outliers):
    mining = make(mining_quantile=0.2)
    batches = list(mining.batches(0, EPOCH, brightness))
    scores = (outliers.fetch(range(40)).float() / 255).mean((1, 2, 3))
    order = sorted(range(40), key=lambda row: float(scores[row]))
    # A quarter of the pool, as an epoch of 12 images would take more.
    assert sorted(mining.rows.tolist()) == sorted(order[8:18])
    seen = {round(value, 5) for values in shown(batches) for value in values}
    assert seen == {round(float(scores[row]), 5) for row in order[8:18]}


def test_a_quantile_near_the_end_still_gives_a_whole_epoch(make):
    mining = make(mining_quantile=0.99)
    list(mining.batches(0, 1, brightness))
    assert len(mining.rows) == 10


def test_a_pool_is_drawn_anew_for_every_epoch(make):
    mining = make(mining_pool=16, mining_quantile=0.0)
    pools = []

    def score(images):
        pools.append(brightness(images))
        return pools[-1]

    list(mining.batches(0, 2 * EPOCH, score))
    assert [len(pool) for pool in pools] == [16, 16]
    assert not torch.equal(*(pool.sort().values for pool in pools))
    assert len(mining.rows) == BATCH
    draw = torch.randperm(40, generator=generator_for("pool", "outlier", 0, 1))[:16]
    assert set(mining.rows.tolist()) <= set(draw.tolist())


def test_the_network_is_asked_when_an_epoch_begins_and_not_before(make):
    mining, asked = make(), []

    def score(images):
        asked.append(step)
        return brightness(images)

    batches, step = mining.batches(0, 2 * EPOCH, score), 0
    for step in range(2 * EPOCH):  # noqa: B007
        next(batches)
    assert asked == [0, EPOCH]


def test_within_an_epoch_a_resumed_training_goes_on_with_what_was_mined(make):
    whole = make()
    expected = shown(whole.batches(0, 2 * EPOCH, brightness))
    first = make()
    list(islice(first.batches(0, 2 * EPOCH, brightness), EPOCH + 1))
    second = make()
    second.load(first.state())

    def never(images):
        raise AssertionError

    assert shown(second.batches(EPOCH + 1, 2 * EPOCH, never)) == expected[EPOCH + 1 :]


def test_processes_share_the_scoring(outliers, stream_of):
    found, asked = [], []
    for rank in range(2):
        turns = [torch.arange(40)[rank::2]]
        everyone = SimpleNamespace(device=torch.device("cpu"), turns=lambda _, t=turns: t)
        gathered = []
        everyone.gather = lambda rows, g=gathered: (g.append(rows), rows)[1]
        mining = MinedOutliers(stream_of(outliers, BATCH), EPOCH, PretrainConfig(), everyone)
        list(mining.batches(0, 1, lambda x: (asked.append(len(x)), brightness(x))[1]))
        found += gathered[0]
    assert asked == [20, 20]
    assert sorted(row for _, row in found) == list(range(40))

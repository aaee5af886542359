"""The parts of the speed benchmarks: both sides do the same, and times are right."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from toys import Convolutional

from atd.attacks import pgd
from benchmarks import attack, pretrain, train_step
from benchmarks.published import PublishedHat, plain_pgd
from benchmarks.speed import PUBLISHED, Setting
from benchmarks.timing import Spread, interleave, ratios
from benchmarks.workbench import atd_task, first_batch, pretrain_task

TINY = Setting("cpu", batch=4, width=4, quick=True)
BALL = {"epsilon": 8 / 255, "steps": 4}


@pytest.fixture(scope="module")
def task():
    return atd_task(TINY.config())


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_plain_pgd_ends_where_the_products_does(images):
    model = Convolutional()
    noise = 2 * torch.rand_like(images) - 1
    plain = plain_pgd(model.logits, images, noise, size=0.01, **BALL)
    ours = pgd(model.logits, images, noise=noise, step_size=0.01, keep="last", **BALL).images
    assert torch.allclose(plain, ours, atol=1e-6)
    assert not torch.allclose(plain, images, atol=1e-3)


def test_sparing_gradients_leaves_the_attack_as_it_is(task):
    (inliers, _), (outliers, _) = first_batch(task)
    noise = 2 * torch.rand(8, *inliers.shape[1:]) - 1
    plain, spared = (
        torch.cat(attack.published_of(task, row).attack(inliers, outliers, noise))
        for row in PUBLISHED.values()
    )
    assert torch.equal(plain, spared)


@pytest.mark.parametrize("spared", [False, True])
def test_parameter_gradients_are_computed_unless_spared(task, spared):
    (inliers, _), (outliers, _) = first_batch(task)
    row = PUBLISHED["published, input gradient only" if spared else "published style"]
    side = attack.published_of(task, row)
    side.attack(inliers, outliers, torch.zeros(8, *inliers.shape[1:]))
    has = [p.grad is not None for p in side.detector.backbone.stem.parameters()]
    assert all(has) is not spared


def test_published_step_trains_discriminator_and_generator(task):
    (inliers, _), (outliers, _) = first_batch(task)
    side = attack.published_of(task, PUBLISHED["published style"])
    networks = (side.detector.discriminator, side.generator, side.detector.backbone)
    before = [nn.utils.parameters_to_vector(part.parameters()).clone() for part in networks]
    side.step(inliers, outliers)
    after = [nn.utils.parameters_to_vector(part.parameters()) for part in networks]
    moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert moved == [True, True, False]


def test_published_hat_attacks_in_evaluation_mode_and_trains():
    task = pretrain_task(TINY.config())
    images, labels = first_batch(task)
    side = PublishedHat(task.model, task.helper, epsilon=0.03, steps=2, size=0.01, spare=True)
    seen = []
    side.model.stem.register_forward_hook(lambda module, *_: seen.append(module.training))
    before = side.model.head.weight.clone()
    side.step(images, labels)
    assert seen == [False] * 4 + [True] * 3
    assert not torch.equal(before, side.model.head.weight)


@pytest.mark.parametrize("module", [train_step, pretrain])
def test_ours_does_the_same_work_less_the_parameter_gradients(module):
    counts = []
    for row in ("published style", "ours, float32"):
        step = module.build(row, TINY)
        with FlopCounterMode(display=False) as counted:
            step()
        counts.append(counted.get_total_flops())
    assert 0.5 < counts[1] / counts[0] < 0.85


def test_sides_take_turns():
    order = []
    sides = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = interleave(sides, repeats=2, device="cpu", warmup=1)
    assert "".join(order) == "ababab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_spread_and_ratios():
    spread = Spread.of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (spread.low, spread.median, spread.high, spread.count) == (2.0, 3.0, 4.0, 5)
    assert Spread.of([7.0]).median == 7.0
    assert ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]

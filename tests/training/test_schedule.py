"""The learning rate is torch's OneCycleLR; attack steps rise evenly; weights are averaged."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from atd.training.schedule import (
    Length,
    attack_steps,
    one_cycle,
    set_learning_rate,
    update_average,
)


@given(epochs=st.integers(1, 80), each=st.integers(1, 100), least=st.integers(0, 1000))
def test_few_images_are_passed_through_more_often(epochs, each, least):
    length = Length.of(epochs, each, least)
    assert length.asked == (length.steps if least and epochs == 1 else epochs * each)
    if least == 0:
        assert (length.steps, length.between) == (epochs * each, each)
        return
    assert length.steps >= max(least, epochs * each)
    assert length.between >= 20
    assert length.between < max(20, least / 8) + each  # no more epochs than it takes
    assert length.between % each == length.steps % length.between == 0
    # not another round more than needed
    assert length.steps - length.between < max(least, epochs * each)
    assert (length.steps > length.asked) == ("instead of" in str(length))


@given(total=st.integers(2, 60), peak=st.floats(1e-4, 10), warmup=st.floats(0.05, 0.95))
def test_one_cycle_is_torchs(total, peak, warmup):
    assume(warmup * total != 1)  # torch's own divides by zero there
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=total, pct_start=warmup, cycle_momentum=False
    )
    for step in range(total):
        assert one_cycle(step, total, peak, warmup) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-9
        )
        with warnings.catch_warnings():  # it wants optimizer.step() and warns of the last step
            warnings.simplefilter("ignore")
            if step < total - 1:
                theirs.step()


@given(total=st.integers(1, 50), warmup=st.floats(0.01, 0.99))
def test_one_cycle_never_exceeds_its_peak(total, warmup):
    rates = [one_cycle(step, total, 0.2, warmup) for step in range(total)]
    assert all(0 < rate <= 0.2 + 1e-12 for rate in rates)


@given(total=st.integers(1, 60), most=st.integers(1, 12))
def test_rising_attack_steps_take_equal_shares_of_the_training(total, most):
    steps = [attack_steps(step, total, most, "rising") for step in range(total)]
    assert steps == sorted(steps)
    assert steps[0] >= 1
    assert steps[-1] == most
    for count in range(1, most + 1):
        assert abs(steps.count(count) - total / most) < 1
    assert {attack_steps(step, total, most, "constant") for step in range(total)} == {most}


def test_every_group_gets_the_rate():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 2.0)]
    optimizer = torch.optim.SGD(groups)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_average_follows_the_warmed_up_rule_and_copies_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = copy.deepcopy(model)
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))
        update_average(average, model, 0.6, step)
        decay = min(0.6, (1 + step) / (10 + step))
        for old, new in zip(expected, model.parameters(), strict=True):
            old.copy_(decay * old + (1 - decay) * new.detach())
        torch.testing.assert_close(list(average.parameters()), expected)
        for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
            assert torch.equal(mine, theirs)

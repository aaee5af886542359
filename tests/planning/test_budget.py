"""`run.budget`: what is planned fits the time, whatever the pace."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atd.config import load
from atd.errors import UserError
from atd.planning.budget import networks, plan_time, shortened, with_network
from atd.planning.forecast import expectations
from atd.planning.pace import Counts, Pace

SECONDS = st.floats(1e-5, 3e-2)


def pace_of(helper=1e-3, pretrain=5e-3, atd=1e-2, attack=1e-3, train=1000, **changes):
    """A machine whose steps take so long an image with the smallest network."""
    steps = {"helper": helper, "pretrain": pretrain, "atd": atd}
    validations = {"helper": 0.1, "pretrain": 1.0, "atd": 3.0}
    counts = Counts(train=train, held=train // 10, tests=(200, 300, 300))
    pace = Pace(steps, validations, attack, 1.0, True, counts)
    pace = dataclasses.replace(pace, **changes)

    def measured(config):
        width, stride = config.backbone.width, config.backbone.stem_stride or 1
        slower = (width / 16) ** 2 * 4 / stride**2 if config.backbone.width != 8 else 1.0
        return dataclasses.replace(
            pace,
            steps={name: seconds * slower for name, seconds in pace.steps.items()},
            attack=pace.attack * slower,
        )

    return measured


def config_of(budget, *more):
    plain = ["data.image_size=32", "backbone.stem_stride=0", "evaluate.baselines=msp"]
    return load("digits", [*plain, f"run.budget={budget}", *more])


@given(
    minutes=st.integers(1, 600),
    helper=SECONDS,
    pretrain=SECONDS,
    atd=SECONDS,
    attack=st.floats(1e-5, 1e-2),
    train=st.integers(20, 200_000),
    width=st.sampled_from(["auto", "8"]),
)
def test_a_plan_fits_its_budget_or_there_is_none(
    minutes, helper, pretrain, atd, attack, train, width
):
    measured = pace_of(helper, pretrain, atd, attack, train)
    try:
        plan = plan_time(config_of(f"{minutes}m", f"backbone.width={width}"), measured)
    except UserError:
        return
    config, pace = plan.config, measured(plan.config)
    kept = config.data.id_limit or 10**9
    seen = min(train, round(kept * (1 - config.data.val_fraction)))
    images = dataclasses.replace(pace.images, train=seen)
    expected = expectations(config, dataclasses.replace(pace, images=images))
    assert sum(one.seconds for one in expected.values()) <= 60 * minutes
    assert min(expected[stage].length.steps for stage in ("pretrain", "atd")) >= 60


def test_a_longer_budget_gets_longer_trainings_and_a_richer_evaluation():
    plans = [plan_time(config_of(text, "backbone.width=8"), pace_of()) for text in ("15m", "9h")]
    short, long = (plan.config for plan in plans)
    assert short.atd.min_steps < long.atd.min_steps
    assert (short.evaluate.tier, long.evaluate.tier) == ("paper", "standard")
    assert short.evaluate.baselines == []
    assert long.evaluate.baselines == ["msp"]


def test_a_longer_budget_gets_a_larger_network():
    found = []
    for text in ("15m", "2h", "100h"):
        plan = plan_time(config_of(text, "backbone.width=auto"), pace_of())
        network = plan.config.backbone
        found.append((network.width, network.stem_stride))
        assert f"width {network.width}, stem of stride {network.stem_stride}" in plan.reasons[-1]
    assert found == [(16, 2), (16, 1), (64, 1)]


def test_a_budget_that_is_too_small_says_what_would_do():
    with pytest.raises(UserError, match=r"run.budget=20s: too short .* give at least (\d+)m"):
        plan_time(config_of("20s"), pace_of())
    with pytest.raises(UserError) as caught:
        plan_time(config_of("20s"), pace_of())
    enough = str(caught.value).rsplit(" ", 1)[1]
    assert plan_time(config_of(enough), pace_of()).config.atd.min_steps >= 60


def test_more_images_than_can_be_seen_are_left_out():
    plan = plan_time(config_of("1h"), pace_of(train=10**6))
    assert 0 < plan.config.data.id_limit < 10**6
    assert "could not be seen even once" in plan.reasons[-1]
    assert plan_time(config_of("1h"), pace_of(train=1000)).config.data.id_limit == 0


def test_the_time_of_trainings_that_a_run_lacks_goes_to_the_others():
    fixed = config_of("1h", "backbone.width=8")
    steps = plan_time(fixed, pace_of()).config.atd.min_steps
    only = plan_time(fixed, pace_of(steps={"atd": 1e-2})).config.atd.min_steps
    assert only > 1.9 * steps  # three quarters of the time in place of 0.35, less validations
    fitted = plan_time(config_of("1h"), pace_of(steps={}))
    assert fitted.config.evaluate.tier == "standard"


def test_what_is_named_stays():
    backbone = config_of("1h").backbone
    assert networks(backbone, 32) == [backbone]
    open_width = dataclasses.replace(backbone, width=0)
    assert [(n.width, n.stem_stride) for n in networks(open_width, 32)][:2] == [(16, 2), (16, 1)]
    assert {n.stem_stride for n in networks(open_width, 8)} == {0}
    strided = dataclasses.replace(open_width, stem_stride=4)
    assert {n.stem_stride for n in networks(strided, 32)} == {4}
    assert with_network(load("digits", ["backbone.width=12"])).config.backbone.width == 12


@given(spent=st.floats(1, 10_000))
def test_a_run_that_is_behind_takes_fewer_steps_of_atd(spent):
    config = plan_time(config_of("1h", "backbone.width=8"), pace_of()).config
    shorter = shortened(config, spent)
    planned = 0.4 * 3600
    assert 60 <= shorter.atd.min_steps <= config.atd.min_steps
    if spent <= planned:
        assert shorter == config
    elif spent <= 0.9 * 3600:  # at the pace so far, ATD and the evaluation end in time
        slower, left = spent / planned, 0.92 * 3600 - spent
        needed = slower * 0.6 * 0.92 * 3600 * shorter.atd.min_steps / config.atd.min_steps
        assert needed <= left * 1.01 or shorter.atd.min_steps == 60

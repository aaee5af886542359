"""Each way in which the game goes wrong is named once, and a good game is left in peace."""

from __future__ import annotations

import math

import pytest

from atd.training.generator_health import generator_warnings

GOOD = {
    "loss": 1.0,
    "logit_spread": 1.5,
    "generated_taken_for_id": 0.3,
    "logit_generated": 1.0,
    "generator_gradient": 0.5,
}


def test_a_good_game_needs_no_words():
    assert generator_warnings(GOOD) == []
    assert generator_warnings({"loss": 1.0, "logit_spread": 1.5}) == []


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ({"loss": 2 * math.log(2), "logit_spread": 0.01}, "collapsed"),
        ({"generated_taken_for_id": 0.97}, "winning: 97%"),
        ({"generator_gradient": 1e-8}, "vanished"),
        ({"logit_generated": 20.0}, "vanished"),
    ],
)
def test_a_problem_is_named_with_a_remedy(means, words):
    (warning,) = generator_warnings({**GOOD, **means})
    assert words in warning
    assert "atd." in warning
    assert "\n" not in warning


def test_a_small_spread_alone_or_the_loss_alone_is_no_collapse():
    assert generator_warnings({**GOOD, "logit_spread": 0.01}) == []
    assert generator_warnings({**GOOD, "loss": 2 * math.log(2)}) == []


def test_a_frozen_generator_is_not_judged_but_the_discriminator_is():
    means = {key: value for key, value in GOOD.items() if key != "generator_gradient"}
    assert generator_warnings({**means, "generated_taken_for_id": 0.97}) == []
    collapsed = {**means, "loss": 2 * math.log(2), "logit_spread": 0.0}
    assert len(generator_warnings(collapsed)) == 1

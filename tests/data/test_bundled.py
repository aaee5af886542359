"""Bundled sets."""

from __future__ import annotations

import pytest
import torch

from atd.config import DataConfig, LoaderConfig
from atd.data.bundled import BUNDLED, bundled_set
from atd.data.reading import settle

DATA = DataConfig(image_size=16, channels=1)
TRAINING = {"procedural", "fallback", "photo-china", "capitals", "shapes", "textures"}


@pytest.fixture(scope="module")
def sets():
    return {name: bundled_set(name, "all", DATA) for name in BUNDLED}


def test_sizes(sets):
    assert len(sets["digits"]) == 1797
    assert 1500 <= len(sets["fallback"]) <= 3000
    tests = BUNDLED.keys() - TRAINING - {"digits", "digits-0-7"}
    assert len(tests) >= 6
    assert all(len(sets[name]) >= 300 for name in tests)


def test_contrast_gives_nothing_away(sets):
    """Every image spans about the range of the digits."""
    for name, images in sets.items():
        pixels = images.fetch(range(len(images))).flatten(1)
        assert pixels.min(1).values.max() <= 40, name
        assert pixels.max(1).values.min() >= 215, name


def test_no_set_repeats_an_image_and_tests_share_none_with_training(sets):
    hashes = {name: settle(images, DATA, LoaderConfig())[1] for name, images in sets.items()}
    for name in ("digits", "fallback", "photo-flower", "portrait", "terrain", "mri", "noise"):
        assert len(set(hashes[name])) >= 0.99 * len(hashes[name]), name
    training = set().union(*(hashes[name] for name in TRAINING))
    for name in BUNDLED.keys() - TRAINING:
        assert training.isdisjoint(hashes[name]), name


def test_digit_splits_are_disjoint_stratified_and_complete(sets):
    train, test = (bundled_set("digits", split, DATA) for split in ("train", "test"))
    assert sorted([*train.rows.tolist(), *test.rows.tolist()]) == list(range(1797))
    share = test.labels.bincount() / sets["digits"].labels.bincount()
    assert (share - 0.25).abs().max() < 0.01


def test_near_ood_digits_are_the_classes_left_out(sets):
    assert sets["digits-0-7"].classes == tuple("01234567")
    assert sets["digits-8-9"].classes == ("8", "9")
    assert len(sets["digits-0-7"]) + len(sets["digits-8-9"]) == 1797
    assert set(sets["digits-8-9"].labels.tolist()) == {0, 1}


def test_inverted_digits_are_negatives():
    data = DataConfig(image_size=8, channels=1)
    digits, negative = (bundled_set(name, "test", data) for name in ("digits", "digits-inverted"))
    everything = torch.arange(len(digits))
    assert torch.equal(255 - digits.fetch(everything), negative.fetch(everything))


@pytest.mark.parametrize("name", ["fallback", "noise", "lowercase", "portrait"])
def test_sets_are_the_same_every_time_whatever_the_random_state(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    once = bundled_set(name, "all", DATA)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(9)
    again = bundled_set(name, "all", DATA)
    assert torch.equal(once.fetch(range(200)), again.fetch(range(200)))


@pytest.mark.parametrize("name", ["textures", "photo-flower", "digits"])
@pytest.mark.parametrize("size", [8, 33])
def test_any_size_in_colour(name, size):
    images = bundled_set(name, "test", DataConfig(image_size=size, channels=3))
    assert images.fetch([0, 1]).shape == (2, 3, size, size)

"""DAAIN on segmentation: scenes are labelled truly, attacks do what they are called, the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks.segmentation import __main__ as command
from benchmarks.segmentation import weather
from benchmarks.segmentation.attacks import Attack, attacks, evading
from benchmarks.segmentation.judging import fitted
from benchmarks.segmentation.network import mean_iou, trained
from benchmarks.segmentation.page import page
from benchmarks.segmentation.scenes import CLASSES, make_scenes

SIZE = 32


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(64, SIZE, "train", seed=0)


@pytest.fixture(scope="module")
def network(scenes):
    return trained(scenes, width=16, steps=60, seed=0)


def test_scenes_are_made_of_their_seed():
    one, again, other = (make_scenes(4, SIZE, "train", seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.images, other.images)
    assert not torch.equal(one.images, make_scenes(4, SIZE, "test", 0).images)


def test_every_class_is_there_and_unknown_objects_are_minus_one(scenes):
    assert scenes.images.shape == (64, 3, SIZE, SIZE)
    assert scenes.images.min() >= 0
    assert scenes.images.max() <= 1
    assert set(scenes.labels.unique().tolist()) == set(range(len(CLASSES)))
    strange = make_scenes(20, SIZE, "test", 0, unknown=True)
    shares = (strange.labels == -1).float().mean((1, 2))
    assert ((shares > 0.01) & (shares < 0.4)).all()


def test_an_objects_pixels_have_its_colour(scenes):
    """Labels lie on what they name: most of the variance within an object is its little noise."""
    inside = []
    for image, labels in zip(scenes.images, scenes.labels, strict=True):
        if (labels == CLASSES.index("disc")).sum() > 40:
            pixels = image[:, labels == CLASSES.index("disc")]
            inside.append(float((pixels - pixels.median(1, keepdim=True).values).abs().median()))
    assert len(inside) > 5
    assert sorted(inside)[len(inside) // 2] < 0.06


@pytest.mark.parametrize("change", [weather.fog, weather.frost, weather.colour_jitter])
def test_weather_changes_images_and_keeps_their_range(scenes, change):
    images = scenes.images[:8]
    changed = change(images, 0)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert ((changed - images).abs().mean((1, 2, 3)) > 0.005).all()
    assert torch.equal(change(images, 0), changed)
    assert not torch.equal(change(images, 1), changed)


def test_the_network_learns(network, scenes):
    test = make_scenes(16, SIZE, "test", 1)
    untrained = trained(scenes, width=16, steps=1, seed=0)
    assert mean_iou(network, test.images, test.labels) > 0.1 + mean_iou(
        untrained, test.images, test.labels
    )


def test_attacks_do_what_they_are_called(network, scenes):
    test = make_scenes(8, SIZE, "test", 1)
    attack = Attack(network, epsilon=8 / 255, steps=5)
    found = attacks(attack, scenes, test)
    for images in found.values():
        assert (images - test.images).abs().max() <= 8 / 255 + 1e-6
    clean = attack.loss(test.images, test.labels)
    assert (attack.loss(found["iterative FGSM, untargeted"], test.labels) > clean).all()
    digit = torch.full_like(test.labels, CLASSES.index("digit"))
    towards = attack.loss(found["iterative FGSM, all digit"], digit)
    assert (towards < attack.loss(test.images, digit)).all()
    ground = torch.zeros_like(digit)
    once = attack.loss(found["single FGSM, all background"], ground)
    assert (once <= attack.loss(test.images, ground)).all()
    change = found["universal perturbation"] - test.images
    moved = change.where((test.images > 0.04) & (test.images < 0.96), torch.nan)
    spread = moved.nan_to_num(-9).amax(0) - moved.nan_to_num(9).amin(0)
    assert spread[spread > -1].max() < 1e-5


def test_unknown_pixels_do_not_count(network):
    strange = make_scenes(4, SIZE, "test", 0, unknown=True)
    attack = Attack(network, epsilon=0.1, steps=1)
    each = functional.cross_entropy(
        network(strange.images), strange.labels.clamp_min(0), reduction="none"
    )
    expected = (each * (strange.labels >= 0)).mean((1, 2))
    torch.testing.assert_close(attack.loss(strange.images, strange.labels), expected)


def test_deceiving_the_detector_costs_some_of_the_attack(network, scenes):
    from atd.detectors.daain import DAAINOptions

    options = DAAINOptions(points=48, blocks=2, hidden=8, epochs=3, lr=5e-3)
    detector = fitted(network, scenes, options)
    test = make_scenes(8, SIZE, "test", 1)
    attack = Attack(network, epsilon=8 / 255, steps=5)
    plain = attack.untargeted(test)
    both = evading(attack, detector, test, detector.score(scenes.images))
    assert detector.score(both).mean() < detector.score(plain).mean()
    assert attack.loss(both, test.labels).mean() > attack.loss(test.images, test.labels).mean()
    maps = detector.score_map(test.images)
    assert maps.shape == (8, SIZE, SIZE)
    assert (maps > 0).all()


def test_the_published_page_is_made_of_its_record():
    docs = Path(__file__).parents[2] / "docs"
    record = json.loads((docs / "segmentation.json").read_text(encoding="utf-8"))
    made = page(record, "small", Path("docs/segmentation.md"))
    assert made == (docs / "segmentation.md").read_text(encoding="utf-8")


def test_the_command_at_smoke_scale(monkeypatch, tmp_path):
    file = tmp_path / "segmentation.md"
    words = ["segmentation", "--scale", "smoke", "--output", str(file)]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    text = file.read_text()
    for row in ("fog", "unknown objects", "universal perturbation", "has another key"):
        assert f"| {row} |" in text
    assert file.with_suffix(".json").exists()

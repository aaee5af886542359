"""The detector: scores, thresholds, wrong input, and its folder on disk."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import torch

from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.errors import UserError

SIZE = 8


def make_detector(backbone=True, **values):
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 4, "features": "last"} if backbone else None,
        classes=["a", "b"],
        image_size=SIZE,
        channels=3,
        options={"normalisation": "layer"},
        **values,
    )
    return build_detector(config)


def some_images(count=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def line_of(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("backbone", [True, False])
def test_bytes_floats_and_logits_agree(backbone):
    detector, images = make_detector(backbone).eval(), some_images()
    scores = detector.score(images)
    assert (scores.shape, scores.dtype, scores.device.type) == ((5,), torch.float32, "cpu")
    assert torch.equal(scores, detector.score(images.float() / 255))
    assert torch.equal(scores, detector.logits(images.float() / 255))
    torch.testing.assert_close(scores, detector.score(images, batch_size=2))
    assert detector.score(images[:0]).shape == (0,)


def test_scoring_uses_evaluation_mode_and_leaves_no_trace():
    detector, images = make_detector().train(), some_images()
    detector.discriminator.eval()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    scores = detector.score(images)
    assert detector.training
    assert not detector.discriminator.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert torch.equal(scores, detector.eval().score(images))


def test_logits_are_differentiable_down_to_the_pixels():
    detector = make_detector().eval()
    images = (some_images().float() / 255).requires_grad_(True)
    detector.logits(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_features_are_standardised():
    detector, images = make_detector().eval(), some_images(64).float() / 255
    with torch.no_grad():
        raw = detector.features(images)
        detector.feature_mean.copy_(raw.mean(0))
        detector.feature_std.copy_(raw.std(0))
        features = detector.features(images)
    torch.testing.assert_close(features.mean(0), torch.zeros(raw.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(raw.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(features, (raw - raw.mean(0)) / raw.std(0))


def test_without_a_backbone_the_discriminator_sees_the_pixels():
    detector, images = make_detector(backbone=False), some_images().float() / 255
    assert detector.backbone is None
    assert torch.equal(detector.features(images), images)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(4, SIZE, SIZE), "shape"),
        (torch.zeros(1, 1, SIZE, SIZE), "(N, 3, 8, 8)"),
        (torch.zeros(1, 3, SIZE, SIZE + 1), "shape"),
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.int64), "int64"),
        (torch.full((1, 3, SIZE, SIZE), 255.0), "255"),
        (torch.full((1, 3, SIZE, SIZE), -0.1), "-0.1"),
        (torch.full((1, 3, SIZE, SIZE), float("nan")), "nan"),
    ],
)
def test_unfit_images_are_refused_in_one_line(images, words):
    with pytest.raises(UserError) as error:
        make_detector().score(images)
    assert words in line_of(error)


def test_predict_splits_at_the_threshold():
    images = some_images()
    detector = make_detector()
    scores = detector.score(images)
    limit = float(scores.median())
    assert torch.equal(detector.predict(images, limit), scores > limit)
    detector.config = dataclasses.replace(detector.config, threshold=limit)
    assert torch.equal(detector.predict(images), scores > limit)
    assert detector.predict(images).sum() == 2  # the median itself passes
    assert detector.predict(images, -1e9).all()


def test_predict_without_a_threshold_says_what_to_do():
    with pytest.raises(UserError) as error:
        make_detector().predict(some_images())
    assert "threshold" in line_of(error)


@pytest.mark.parametrize("backbone", [True, False])
def test_saving_and_loading_changes_no_bit(tmp_path, backbone):
    detector = make_detector(backbone, threshold=0.25, provenance={"seed": 3})
    detector.feature_mean.fill_(0.125)
    detector.save_pretrained(tmp_path / "detector", "# card")
    loaded = Detector.from_pretrained(tmp_path / "detector")
    assert loaded.config == detector.config
    assert loaded.threshold == 0.25
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    state = detector.state_dict()
    assert state.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(loaded.score(some_images()), detector.score(some_images()))
    assert (tmp_path / "detector" / "README.md").read_text() == "# card"
    assert {file.name for file in tmp_path.iterdir()} == {"detector"}


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")


def rename_that_fails_for(name):
    rename = os.replace

    def replace(source, target):
        if os.fspath(source).endswith(name):
            full_disk()
        rename(source, target)

    return replace


@pytest.mark.parametrize("where", ["weights", "text", "rename"])
def test_an_older_folder_survives_a_failed_write(tmp_path, monkeypatch, where):
    folder = tmp_path / "detector"
    make_detector(name="old").save_pretrained(folder)
    before = contents(folder)
    with monkeypatch.context() as patch:
        match where:
            case "weights":
                patch.setattr("safetensors.torch.save", full_disk)
            case "text":
                patch.setattr("pathlib.Path.write_text", full_disk)
            case "rename":
                patch.setattr("os.replace", rename_that_fails_for(".tmp"))
        with pytest.raises(UserError) as error:
            make_detector(name="new").save_pretrained(folder)
    assert "No space left" in line_of(error)
    assert contents(folder) == before
    assert Detector.from_pretrained(folder).config.name == "old"
    make_detector(name="new").save_pretrained(folder)
    assert Detector.from_pretrained(folder).config.name == "new"
    assert {file.name for file in tmp_path.iterdir()} == {"detector"}


def edit_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def drop_classes(folder):
    file = folder / "config.json"
    values = json.loads(file.read_text())
    del values["classes"]
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "not a detector folder"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "format 1"),
        (lambda folder: edit_config(folder, format=3), "format 1"),
        (drop_classes, "classes"),
        (lambda folder: edit_config(folder, classes=["a"]), "does not fit"),
        (lambda folder: edit_config(folder, backbone={"depth": 3}), "depth"),
        (lambda folder: edit_config(folder, backbone={"width": 1}), "backbone.width"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(tmp_path, damage, words):
    folder = tmp_path / "detector"
    make_detector().save_pretrained(folder)
    damage(folder)
    with pytest.raises(UserError) as error:
        Detector.from_pretrained(folder)
    assert str(folder) in line_of(error)
    assert words in line_of(error)

"""The calibration sample in a detector's folder: kept, checked, replaced all or nothing."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from atd import files
from atd.detectors.amending import amend_detector
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.calibration import CalibrationSample, Pictures, comparable
from atd.detectors.config import DetectorConfig
from atd.errors import UserError


def make():
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 4, "features": "last"},
        classes=["a", "b"],
        image_size=8,
        channels=1,
        options={"normalisation": "layer"},
    )
    return build_detector(config).eval()


@pytest.fixture
def sample():
    images = torch.arange(2 * 64, dtype=torch.uint8).reshape(2, 1, 8, 8)
    pictures = Pictures.of(
        torch.tensor([0, 3]), images, torch.rand(2, 5), ["a/\udce9.png", "b.png"]
    )
    return CalibrationSample(torch.arange(5, dtype=torch.float32), pictures)


@pytest.fixture
def folder(tmp_path, sample):
    detector = make()
    detector.calibration = sample
    detector.save_pretrained(tmp_path / "detector")
    return tmp_path / "detector"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_it_travels_with_the_detector(folder, tmp_path, sample):
    loaded = Detector.from_pretrained(folder)
    loaded.save_pretrained(tmp_path / "again")
    again = Detector.from_pretrained(tmp_path / "again").calibration
    assert torch.equal(again.scores, sample.scores)
    for name in ("rows", "images", "features"):
        assert torch.equal(getattr(again.pictures, name), getattr(sample.pictures, name))
    assert list(again.pictures.names) == [r"\xe9.png", "b.png"]  # no folders, and text
    make().save_pretrained(tmp_path / "again")
    assert Detector.from_pretrained(tmp_path / "again").calibration is None
    assert "calibration.safetensors" not in contents(tmp_path / "again")


def test_p_values_come_from_it(folder):
    detector = Detector.from_pretrained(folder)
    images = torch.rand(3, 1, 8, 8)
    expected = detector.calibration.p_values(detector.score(images))
    torch.testing.assert_close(detector.p_values(images), expected)
    found = detector.calibration.p_values(torch.tensor([2.0, 9.0, float("nan"), -9.0]))
    torch.testing.assert_close(found, torch.tensor([4 / 6, 1 / 6, 0.0, 1.0]))
    with pytest.raises(UserError, match="no calibration sample"):
        make().p_values(images)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_what_is_not_the_detectors_own_is_refused(folder, damage, sample):
    file = folder / "calibration.safetensors"
    content = file.read_bytes()
    match damage:
        case "cut":
            content = content[:-1]
        case "flipped":
            content = content[:-1] + bytes([content[-1] ^ 1])
        case "other":
            content = CalibrationSample(sample.scores + 1).to_bytes()
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"calibration\.safetensors: damaged: .*atd\.calibrate"):
        Detector.from_pretrained(folder)
    file.unlink()
    assert Detector.from_pretrained(folder).calibration is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": torch.tensor([float("nan")])},
        {"scores": torch.zeros(0)},
        {"scores": torch.zeros(3, dtype=torch.int64)},
        {"scores": torch.zeros(3), "rows": torch.tensor([7])},
        {"scores": torch.zeros(3), "images": torch.zeros(1, 9, 2, 2, dtype=torch.uint8)},
        {"scores": torch.zeros(3), "features": torch.zeros(2, 2)},
        {"elsewhere": torch.zeros(3)},
    ],
)
def test_a_hostile_sample_with_a_right_digest_is_refused(folder, wrong):
    import hashlib

    from safetensors.torch import save

    tensors = {
        "rows": torch.tensor([0]),
        "images": torch.zeros(1, 1, 2, 2, dtype=torch.uint8),
        "features": torch.zeros(1, 2),
    }
    content = save({**tensors, **wrong}, {"names": '["a"]'})
    (folder / "calibration.safetensors").write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    config["calibration_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="damaged"):
        Detector.from_pretrained(folder)


def test_amending_leaves_weights_and_other_files_alone(folder, tmp_path):
    detector = make()
    half = tmp_path / "half"
    detector.save_pretrained(half, half=True)
    (half / "notes.txt").write_text("mine")
    before = contents(half)
    config = dataclasses.replace(Detector.from_pretrained(half).config, threshold=0.25)
    amend_detector(half, config, CalibrationSample(torch.zeros(3)), "# Card\n")
    after = contents(half)
    assert after["model.safetensors"] == before["model.safetensors"]
    assert after["notes.txt"] == b"mine"
    assert after["README.md"] == b"# Card\n"
    loaded = Detector.from_pretrained(half)
    assert loaded.threshold == 0.25
    assert len(loaded.calibration.scores) == 3
    amend_detector(half, loaded.config, None, "# Card\n")
    assert "calibration.safetensors" not in contents(half)
    assert Detector.from_pretrained(half).calibration is None


def test_a_folder_that_cannot_be_written_stays_as_it_is(folder, monkeypatch):
    before = contents(folder)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "_exchange", refuse)
    config = Detector.from_pretrained(folder).config
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        amend_detector(folder, config, None, "")
    assert contents(folder) == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["detector"]


def test_images_are_compared_by_features_of_bounded_size(folder):
    detector = Detector.from_pretrained(folder)
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(comparable(detector, images), detector.features(images))
    detector.features = lambda images: torch.rand(len(images), 3, 2000)
    assert comparable(detector, images).shape == (2, 3000)

"""The user's images: halves that share none, and what is refused."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from atd.detectors.config import DetectorConfig
from atd.detectors.formats.own_images import LEAST, read_own_images
from atd.errors import UserError

CONFIG = DetectorConfig(
    kind="msp", image_size=8, channels=1, options={}, backbone=None, classes=["a", "b"]
)


def write(folder, count, first=0):
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("L", (8, 8), first + index).save(folder / f"{index:04}.png")
    return folder


def levels(images):
    return set(images.flatten(1).float().mean(1).tolist())


def test_calibration_and_judgement_share_no_image(tmp_path):
    found = read_own_images([write(tmp_path / "id", 40)], [], CONFIG)
    assert levels(found.calibration) == set(map(float, range(0, 40, 2)))
    assert levels(found.inside) == set(map(float, range(1, 40, 2)))
    assert found.outside.shape[1:] == (1, 8, 8)
    assert found.outside.dtype == torch.uint8
    assert "altered" in found.outside_name


def test_ood_images_are_the_users_where_named(tmp_path):
    outside = write(tmp_path / "ood", 33, first=100)
    found = read_own_images([write(tmp_path / "id", 32)], [outside], CONFIG)
    assert levels(found.outside) == set(map(float, range(100, 133)))
    assert found.outside_name == str(outside)


def test_many_are_thinned_over_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("atd.detectors.formats.own_images._MOST", 34)
    found = read_own_images([write(tmp_path / "id", 200)], [], CONFIG)
    assert len(found.calibration) + len(found.inside) == 34
    assert max(levels(found.calibration) | levels(found.inside)) == 199.0


def test_too_few_and_missing_images_are_refused(tmp_path):
    folder = write(tmp_path / "id", LEAST - 1)
    with pytest.raises(UserError, match=rf"--calibration .*id: {LEAST - 1} image\(s\); name"):
        read_own_images([folder], [], CONFIG)
    with pytest.raises(UserError, match="no such file"):
        read_own_images([tmp_path / "none"], [], CONFIG)


def test_corrupt_images_are_left_out_and_told(tmp_path, capsys):
    folder = write(tmp_path / "id", LEAST)
    (folder / "broken.png").write_bytes(b"\x89PNG but not")
    found = read_own_images([folder], [], CONFIG)
    assert len(found.calibration) + len(found.inside) == LEAST
    assert "--calibration: 1 left out: 1 unreadable image(s)" in capsys.readouterr().err
    (folder / "0000.png").write_bytes(b"")
    with pytest.raises(UserError, match=rf"id: {LEAST - 1} image\(s\); name"):
        read_own_images([folder], [], CONFIG)

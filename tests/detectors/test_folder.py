"""Detector folders: saved and loaded bit for bit, never half-written, never trusted."""

from __future__ import annotations

import os
import threading

import pytest
import torch
from making import line_of, make_detector, some_images

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.base import Detector
from atd.detectors.energy import Energy
from atd.errors import UserError


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
                patch.setattr("pathlib.Path.write_bytes", full_disk)
            case "rename":
                patch.setattr("atd.files._exchange", full_disk)
        with pytest.raises(UserError) as error:
            make_detector(name="new").save_pretrained(folder)
    assert "No space left" in line_of(error)
    assert contents(folder) == before
    assert Detector.from_pretrained(folder).config.name == "old"
    make_detector(name="new").save_pretrained(folder)
    assert Detector.from_pretrained(folder).config.name == "new"
    assert {file.name for file in tmp_path.iterdir()} == {"detector"}


def test_a_record_is_text(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hidden")
    folder = tmp_path / "detector"
    record = {"data": {"root": "${oc.env:SECRET}"}, "x": "$SECRET"}
    make_detector(training=record, threshold_note="${oc.env:SECRET}").save_pretrained(folder)
    loaded = Detector.from_pretrained(folder)
    assert loaded.config.training == record
    assert loaded.config.threshold_note == "${oc.env:SECRET}"


def test_a_detector_in_double_stays_so(tmp_path):
    detector = make_detector().double().eval()
    detector.save_pretrained(tmp_path / "detector")
    loaded = Detector.from_pretrained(tmp_path / "detector")
    assert {value.dtype for value in loaded.parameters()} == {torch.float64}
    assert torch.equal(loaded.score(some_images()), detector.score(some_images()))


@pytest.mark.parametrize("content", ["notes.txt", "config.json"])
def test_a_folder_of_somebody_elses_is_refused(tmp_path, content):
    folder = tmp_path / "sv"
    folder.mkdir()
    (folder / content).write_text('{"model_type": "resnet"}')
    with pytest.raises(UserError) as error:
        make_detector().save_pretrained(folder)
    assert str(folder) in line_of(error)
    assert contents(folder) == {content: b'{"model_type": "resnet"}'}


def test_neighbours_and_files_beside_are_kept(tmp_path):
    folder = tmp_path / "sv"
    make_detector(name="old").save_pretrained(folder)
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    for neighbour in ("sv.old", "sv.tmp"):
        (tmp_path / neighbour).mkdir()
        (tmp_path / neighbour / "mine.txt").write_text("mine")
    make_detector(name="new").save_pretrained(folder)
    assert Detector.from_pretrained(folder).config.name == "new"
    for kept in (folder / "notes", tmp_path / "sv.old", tmp_path / "sv.tmp"):
        assert (kept / "mine.txt").read_text() == "mine"
    assert {entry.name for entry in tmp_path.iterdir()} == {"sv", "sv.old", "sv.tmp"}


def test_a_link_to_a_folder_stays_one(tmp_path):
    make_detector(name="old").save_pretrained(tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    make_detector(name="new").save_pretrained(tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert Detector.from_pretrained(tmp_path / "v1").config.name == "new"


def test_files_are_readable_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        make_detector().save_pretrained(tmp_path / "detector")
    finally:
        os.umask(before)
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "detector").iterdir()}
    assert modes == {0o644}
    assert (tmp_path / "detector").stat().st_mode & 0o777 == 0o755


def test_readers_find_the_old_or_the_new_one_at_any_moment(tmp_path):
    folder = tmp_path / "detector"
    detectors = [make_detector(name=name) for name in ("one", "two")]
    for detector, value in zip(detectors, (1.0, 2.0), strict=True):
        detector.feature_mean.fill_(value)
    detectors[0].save_pretrained(folder)
    done = threading.Event()

    def write():
        for turn in range(20):
            detectors[turn % 2].save_pretrained(folder)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or not reads:
        loaded = Detector.from_pretrained(folder)
        assert float(loaded.feature_mean[0]) == {"one": 1.0, "two": 2.0}[loaded.config.name]
        reads += 1
    writer.join()


def test_half_the_size_and_nearly_the_same_scores(tmp_path):
    network = build_backbone(BackboneConfig(width=8), channels=3, classes=2, image_size=16)
    detector = Energy(network.eval(), image_size=16, classes=["a", "b"])
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, half in (("whole", False), ("half", True)):
        detector.save_pretrained(tmp_path / name, half=half)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = Detector.from_pretrained(tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.allclose(loaded.score(images), detector.score(images), atol=1e-2)
    loaded.save_pretrained(tmp_path / "again", half=True)
    again = Detector.from_pretrained(tmp_path / "again")
    assert torch.equal(again.score(images), loaded.score(images))


def test_a_weight_too_large_for_half_is_named(tmp_path):
    network = build_backbone(BackboneConfig(width=8), channels=3, classes=2, image_size=16)
    detector = Energy(network.eval(), image_size=16, classes=["a", "b"])
    with torch.no_grad():
        network.groups[3][0].conv1.weight[0] = 1e6
    with pytest.raises(UserError, match=r"groups.3.0.conv1.weight: .* half=False"):
        detector.save_pretrained(tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()

"""Detector folders: saved and loaded bit for bit, never half-written, never trusted."""

from __future__ import annotations

import hashlib
import json
import os
import threading

import pytest
import torch
from making import line_of, make_detector, some_images
from safetensors.torch import load_file, save

import atd
from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.energy import Energy
from atd.detectors.kinds import KINDS
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


def edit_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def edit_weights(folder, **changes):
    """Changes tensors in the file, and signs it anew, as somebody who means harm would."""
    file = folder / "model.safetensors"
    state = load_file(file)
    for name, change in changes.items():
        name = name.replace("__", ".")
        state[name] = change(state[name])
    weights = save(state)
    file.write_bytes(weights)
    edit_config(folder, weights_sha256=hashlib.sha256(weights).hexdigest())


def first_value(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    return change


def rename_tensor(folder):
    file = folder / "model.safetensors"
    state = load_file(file)
    state["other"] = state.pop("feature_mean")
    file.write_bytes(save(state))


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def swap(**values):
    """Puts the weights of another detector in the place of its own."""

    def damage(folder):
        other = folder.with_name("other")
        detector = make_detector(**values)
        next(detector.parameters()).data.add_(1)
        detector.save_pretrained(other)
        os.replace(other / "model.safetensors", folder / "model.safetensors")

    return damage


def drop(key):
    def damage(folder):
        values = json.loads((folder / "config.json").read_text())
        del values[key]
        (folder / "config.json").write_text(json.dumps(values))

    return damage


def make_pipe(name):
    def damage(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def text(content):
    return lambda folder: (folder / "config.json").write_bytes(content)


def config(**values):
    return lambda folder: edit_config(folder, **values)


def weights(**changes):
    return lambda folder: edit_weights(folder, **changes)


DAMAGE = {
    "truncated": (truncate, "model.safetensors"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "No such file"),
    "weights are a pipe": (make_pipe("model.safetensors"), "regular file"),
    "one bit": (flip, "SHA-256"),
    "those of another detector": (swap(), "SHA-256"),
    "those of a smaller detector": (swap(backbone=False), "far larger"),
    "renamed tensor": (rename_tensor, "feature_mean"),
    "NaN weight": (weights(backbone__head__weight=first_value(float("nan"))), "head.weight"),
    "infinite weight": (weights(feature_mean=first_value(float("inf"))), "feature_mean"),
    "zero deviation": (weights(feature_std=first_value(0.0)), "feature_std"),
    "zero image deviation": (weights(backbone__std=first_value(0.0)), "backbone.std"),
    "negative variance": (weights(backbone__norm__running_var=first_value(-1.0)), "running_var"),
    "half": (weights(feature_mean=torch.Tensor.half), "float16"),
    "one of them double": (weights(feature_mean=torch.Tensor.double), "float64"),
    "another shape": (weights(feature_mean=lambda value: value[:-1]), "feature_mean"),
    "no config": (lambda f: (f / "config.json").unlink(), "not a detector folder"),
    "config is a pipe": (make_pipe("config.json"), "regular file"),
    "half a config": (text(b"{"), "config.json"),
    "empty config": (text(b""), "config.json"),
    "UTF-16": (text('{"format": 2}'.encode("utf-16")), "cannot be read"),
    "nested": (text(b"[" * 100_000), "config.json"),
    "long number": (text(b'{"format": ' + b"9" * 5000 + b"}"), "config.json"),
    "half a character": (config(name="\ud800"), "surrogates"),
    "a list": (text(b"[]"), "format 1"),
    "newer": (config(format=3), "format 1"),
    "format true": (config(format=True), "format 1"),
    "no classes": (drop("classes"), "classes"),
    "no kind": (drop("kind"), "kind"),
    "fewer classes": (config(classes=["a"]), "does not fit"),
    "classes are numbers": (config(classes=[1, 2]), "classes"),
    "unknown kind": (config(kind="enrgy"), "energy"),
    "kind of another": (config(kind="energy", options={}), "discriminator"),
    "unknown option": (config(options={"temperature": 1.0}), "temperature"),
    "wrong option": (config(options={"normalisation": "batches"}), "normalisation"),
    "unknown backbone option": (config(backbone={"depth": 3}), "depth"),
    "too narrow": (config(backbone={"width": 1}), "backbone.width"),
    "width is text": (config(backbone={"width": "4"}), "width"),
    "size is text": (config(image_size="8"), "image_size"),
    "size is a flag": (config(image_size=True), "image_size"),
    "size is a fraction": (config(image_size=8.0), "image_size"),
    "no size": (config(image_size=0), "image_size"),
    "huge size": (config(image_size=10**100), "image_size"),
    "huge channels": (config(channels=10**8), "channels"),
    "huge width": (config(backbone={"width": 1024}), "far larger"),
    "deep": (config(backbone={"architecture": "wide_resnet34", "width": 512}), "far larger"),
    "gigantic": (
        config(backbone={"architecture": "timm:vit_gigantic_patch14_224"}, image_size=224),
        "config.json",
    ),
    "timm at 20,000 px": (
        config(backbone={"architecture": "timm:convnext_atto"}, image_size=20_000),
        "image_size",
    ),
    "somebody's code": (config(backbone={"architecture": "import:os:getcwd"}), "config.json"),
    "threshold NaN": (config(threshold=float("nan")), "threshold"),
    "threshold infinite": (config(threshold=float("inf")), "threshold"),
    "threshold is text": (config(threshold="0.5"), "threshold"),
    "huge threshold": (config(threshold=10**400), "threshold"),
    "another direction": (config(score="raw logit; smaller = more likely OOD"), "score"),
    "name is a path": (config(name="../../x"), "name"),
    "name is absolute": (config(name="/tmp/x"), "name"),
    "name is above": (config(name=".."), "name"),
    "name of controls": (config(name="a\nb"), "name"),
    "name is a number": (config(name=7), "name"),
    "training is text": (config(training="x"), "training"),
    "no digest": (config(weights_sha256=None), "weights_sha256"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders_are_refused_in_one_line(tmp_path, case):
    damage, words = DAMAGE[case]
    folder = tmp_path / "detector"
    make_detector().save_pretrained(folder)
    damage(folder)
    with pytest.raises(UserError) as error:
        Detector.from_pretrained(folder)
    assert str(folder) in line_of(error)
    assert words in line_of(error)


def test_no_byte_of_the_weights_can_be_changed(tmp_path):
    folder = tmp_path / "detector"
    make_detector(backbone=False).save_pretrained(folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    places = [*range(0, 200, 19), *range(200, len(whole), len(whole) // 20), len(whole) - 1]
    for place in places:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(UserError) as error:
            Detector.from_pretrained(folder)
        assert str(file) in line_of(error)
    file.write_bytes(whole)
    Detector.from_pretrained(folder)


def test_a_folder_from_before_digests_is_loaded(tmp_path):
    make_detector().save_pretrained(tmp_path / "detector")
    drop("weights_sha256")(tmp_path / "detector")
    loaded = Detector.from_pretrained(tmp_path / "detector")
    assert torch.equal(loaded.score(some_images()), make_detector().score(some_images()))


@pytest.mark.parametrize(
    "values",
    [
        {"backbone": {"width": 1024}},
        {"backbone": {"architecture": "wide_resnet34", "width": 1024}},
        {"classes": ["a"] * 100_000},
        {"kind": "atd", "backbone": None, "image_size": 1024},
    ],
)
def test_nothing_is_allocated_that_the_weights_do_not_bound(tmp_path, monkeypatch, values):
    folder = tmp_path / "detector"
    make_detector().save_pretrained(folder)
    edit_config(folder, **values)
    devices = []

    def building(described):
        devices.append(torch.empty(0).device.type)
        return build_detector(described)

    monkeypatch.setattr("atd.detectors.folder.build_detector", building)
    with pytest.raises(UserError):
        Detector.from_pretrained(folder)
    assert devices == ["meta"]


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


def test_loading_draws_no_random_numbers(tmp_path):
    make_detector().save_pretrained(tmp_path / "detector")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Detector.from_pretrained(tmp_path / "detector")
    assert torch.equal(torch.rand(1), expected)


def test_loaded_under_inference_mode_it_still_has_gradients(tmp_path):
    make_detector().save_pretrained(tmp_path / "detector")
    with torch.inference_mode():
        loaded = Detector.from_pretrained(tmp_path / "detector")
    images = (some_images() / 255).requires_grad_(True)
    loaded.logits(images).sum().backward()
    assert images.grad.abs().sum() > 0


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


def test_the_true_reason_is_given(tmp_path, monkeypatch):
    make_detector().save_pretrained(tmp_path / "detector")
    access = os.access
    monkeypatch.setattr(  # the superuser may read everything
        "os.access",
        lambda path, mode: not str(path).endswith(".safetensors") and access(path, mode),
    )
    with pytest.raises(UserError) as error:
        Detector.from_pretrained(tmp_path / "detector")
    assert "Permission denied" in line_of(error)
    with pytest.raises(UserError, match="no such folder"):
        Detector.from_pretrained(tmp_path / "absent")


@pytest.fixture
def nearest(monkeypatch):
    """A fitted detector of a kind that only this test knows."""
    monkeypatch.setitem(KINDS, "nearest", "nearest:Nearest")
    backbone = make_detector().backbone.eval()
    return atd.fit("nearest", backbone, some_images(7))


def test_a_buffer_of_the_fits_size_is_loaded(tmp_path, nearest):
    nearest.save_pretrained(tmp_path / "detector")
    loaded = Detector.from_pretrained(tmp_path / "detector")
    assert loaded.bank.shape == (7, 32)
    assert torch.equal(loaded.score(some_images()), nearest.score(some_images()))


def test_a_detector_that_is_not_fitted_is_neither_saved_nor_used(tmp_path, nearest):
    unfitted = build_detector(nearest.config)
    for use in (unfitted.score, lambda x: unfitted(x / 255)):
        with pytest.raises(UserError, match="not fitted"):
            use(some_images())
    with pytest.raises(UserError, match="not fitted"):
        unfitted.save_pretrained(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bank: bank[:0], "shape (0, 32)"),
        (lambda bank: bank[:, :-1].contiguous(), "shape (7, 31)"),
        (lambda bank: bank[0], "shape (32,)"),
        (lambda bank: bank.double(), "float64"),
        (lambda bank: bank * float("nan"), "not finite"),
        (lambda bank: bank * 1e38, "no finite score"),
    ],
)
def test_a_damaged_buffer_of_the_fits_size_is_refused(tmp_path, nearest, change, words):
    nearest.save_pretrained(tmp_path / "detector")
    edit_weights(tmp_path / "detector", bank=change)
    with pytest.raises(UserError) as error:
        Detector.from_pretrained(tmp_path / "detector")
    assert words in line_of(error)


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

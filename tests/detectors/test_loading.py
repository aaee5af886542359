"""Loading: a damaged or hostile folder is one line, and costs no more than its files."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
import torch
from making import edit_config, line_of, make_detector, some_images
from safetensors.torch import load_file, save

import atd
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.kinds import KINDS
from atd.errors import UserError


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


def test_a_run_folder_names_the_detector_inside(tmp_path):
    make_detector().save_pretrained(tmp_path / "run" / "detector")
    with pytest.raises(UserError, match=r"no config\.json\); did you mean .*run/detector\?"):
        Detector.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
def test_a_device_that_is_not_there_is_told_in_a_line(tmp_path, device):
    make_detector().save_pretrained(tmp_path / "detector")
    with pytest.raises(UserError, match=f"^device {device}: "):
        Detector.from_pretrained(tmp_path / "detector", device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_detector_of_another_precision_is_saved_as_one_that_can_be_loaded(tmp_path, dtype):
    make_detector().to(dtype).save_pretrained(tmp_path / "detector")
    scores = Detector.from_pretrained(tmp_path / "detector").score(some_images())
    torch.testing.assert_close(scores, make_detector().score(some_images()), atol=0.05, rtol=0.05)

"""What weight files may hold, and files that are something else: nothing in them is run."""

from __future__ import annotations

import gzip
import os
import random
import zipfile
from argparse import Namespace
from fractions import Fraction

import numpy as np
import pytest
import torch
from nets import Small
from safetensors.torch import save, save_file
from weight_files import IMAGES, build, refused, trained, written

from atd.backbones.weights import load_weights
from atd.errors import UserError


def test_the_old_format_of_torch(tmp_path):
    model, backbone = trained(), build()
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    load_weights(backbone, path)
    assert torch.equal(backbone(IMAGES), model(IMAGES))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path, value):
    state = trained().state_dict()
    state["deep.0.bias"][3] = value
    assert "deep.0.bias holds values that are not finite" in refused(written(tmp_path, state))


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(5, 8, dtype=torch.int8),
        torch.zeros(5, 8, dtype=torch.complex64),
        torch.zeros(5, 8).to_sparse(),
        torch.zeros(5, 8, device="meta"),
    ],
)
def test_tensors_of_other_kinds(tmp_path, value):
    state = trained().state_dict() | {"out.weight": value}
    assert "out.weight holds no plain numbers" in refused(written(tmp_path, state))


class Attack:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_pickles_with_code_are_not_run(tmp_path, zipped, beside):
    bait = tmp_path / "executed"
    content = {"state_dict": trained().state_dict(), "x": Attack(bait)} if beside else Attack(bait)
    path = tmp_path / "weights.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refused(path)
    assert "holds Python objects besides tensors (posix.system)" in message
    assert "torch.save(model.state_dict(), FILE)" in message
    assert not bait.exists()


def test_whole_models_and_settings_are_named(tmp_path):
    assert "(nets.Small)" in refused(written(tmp_path, Small()))
    content = {"model": trained().state_dict(), "config": Fraction(1, 2)}
    assert "(fractions.Fraction)" in refused(written(tmp_path, content))


def test_settings_that_are_plain_data_are_no_fault(tmp_path):
    content = {"state_dict": trained().state_dict(), "args": Namespace(lr=0.1), "epoch": 3}
    content |= {"best": np.float64(0.9), "steps": np.int64(7), "flags": [True, None, "x"]}
    assert load_weights(build(), written(tmp_path, content)).head


def test_contents_without_a_state_dict(tmp_path):
    assert "holds a list, not a state dict" in refused(written(tmp_path, [torch.zeros(1)]))
    assert "holds no tensors with names" in refused(written(tmp_path, {"epoch": 3}))
    assert "lacks" in refused(written(tmp_path, {"a": torch.zeros(1)}))


OTHER_FILES = {
    "page.pt": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "empty.pt": (b"", "an empty file"),
    "lfs.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "packed.pt": (gzip.compress(b"x" * 100), "gzip archive"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "text.safetensors": (b"not weights at all", "neither a PyTorch nor a safetensors file"),
    "short.safetensors": (save({"a": torch.zeros(9)})[:-4], "cut off or damaged"),
    "pickle.pkl": (b"\x80\x04]\x94.", "not a PyTorch file"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_files_of_other_kinds(tmp_path, name):
    content, said = OTHER_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert said in refused(path)


def test_archives_of_other_kinds(tmp_path):
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    assert "a zip archive, but not of PyTorch" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    assert "a compressed archive" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"x")
        archive.writestr("net/constants.pkl", b"x")
    assert "a TorchScript archive" in refused(path)


def test_what_is_no_file(tmp_path):
    assert "No such file" in refused(tmp_path / "nothing.pt")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert "a folder, but not a detector's" in refused(tmp_path / "folder")


@pytest.mark.parametrize("name", ["weights.pt", "old.pt", "weights.safetensors"])
def test_damaged_files_end_in_one_line(tmp_path, name):
    """Cut off anywhere, or with bytes overwritten: a clear refusal, or weights that are finite."""
    path, chance = tmp_path / name, random.Random(name)
    torch.save(trained().state_dict(), path, _use_new_zipfile_serialization=name != "old.pt")
    if name.endswith(".safetensors"):
        save_file(trained().state_dict(), path)
    whole, said = path.read_bytes(), []
    for case in range(120):
        if case % 3 == 0:
            damaged = whole[: chance.randrange(len(whole))]
        else:
            damaged = bytearray(whole)
            limit = len(whole) if case % 3 == 1 else 1200  # where the structure lies
            for _ in range(chance.randrange(1, 5)):
                damaged[chance.randrange(limit)] = chance.randrange(256)
        path.write_bytes(damaged)
        backbone = build()
        try:
            load_weights(backbone, path)
        except UserError as error:
            said.append(str(error))
        values = backbone.state_dict().values()
        assert all(value.isfinite().all() for value in values if value.is_floating_point())
    assert len(said) > 40
    assert all(str(path) in line and "\n" not in line for line in said)

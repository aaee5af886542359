"""Sources by name."""

from __future__ import annotations

import struct
import urllib.error

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atd.config import DataConfig, LoaderConfig
from atd.data.images import HeldPixels, ImageSet
from atd.data.sources import (
    has_test_split,
    jigsaw,
    load_source,
    open_source,
    source_name,
    split_mixture,
)
from atd.errors import UserError

DATA = DataConfig(image_size=8, channels=3)
LOADER = LoaderConfig()


def fill(folder, counts, start=0):
    """Writes `counts[name]` different images below each name."""
    number = start
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            colour = (number % 256, number // 256, 77)
            Image.new("RGB", (8, 8), colour).save(folder / name / f"{number:04}.png")
            number += 1


def load(source, split="all"):
    return load_source(source, split=split, data=DATA, loader=LOADER)


def test_class_folders(tmp_path):
    fill(tmp_path, {"b": 2, "a/deep": 1, "a": 2})
    images = load(f"folder:{tmp_path}")
    assert images.classes == ("a", "b")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.name_of(3) == f"{tmp_path}/b/0000.png"
    assert images.fetch([3])[0, :, 0, 0].tolist() == [0, 0, 77]
    for split in ("train", "test"):
        assert len(load(f"folder:{tmp_path}", split)) == 5


@pytest.mark.parametrize("where", ["", "all"])
def test_flat_folders_have_no_labels(tmp_path, where):
    fill(tmp_path, {where: 3})
    images = load(f"folder:{tmp_path}")
    assert images.classes == ()
    assert images.labels.tolist() == [-1] * 3


def test_images_beside_class_folders_take_the_labels_away_with_a_notice(tmp_path, capsys):
    fill(tmp_path, {"a": 2, "b": 2, "": 1})
    assert load(f"folder:{tmp_path}").classes == ()
    assert "without labels" in capsys.readouterr().err


def test_relative_folders(tmp_path, monkeypatch):
    fill(tmp_path, {"mine": 2})
    monkeypatch.chdir(tmp_path)
    assert len(load("folder:mine")) == 2


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load(f"folder:{tmp_path}/nowhere")
    with pytest.raises(UserError, match="no images in"):
        load(f"folder:{tmp_path}")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        load(f"folder:{tmp_path}/file")
    fill(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: this class folder holds no images"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("cifar-10", "cifar10"), ("bundled:digit", "bundled:digits"), ("SVHN", "svhn")],
)
def test_unknown_names_get_the_nearest_one(wrong, right):
    with pytest.raises(UserError, match=f"did you mean {right}\\?"):
        load(wrong)


def test_a_bare_path_gets_the_right_spelling(tmp_path):
    with pytest.raises(UserError, match=f"written folder:{tmp_path}"):
        load(str(tmp_path))


@pytest.mark.parametrize("source", ["", "folder:", "jigsaw:", "zzz", "a +  + b", "bundled:"])
def test_nonsense_is_a_user_error(source):
    with pytest.raises(UserError):
        load(source)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("cifar10", "cifar10"),
        ("folder:/x/svhn/test", "svhn"),
        ("folder:/x/my birds!", "my_birds_"),
        ("bundled:noise + jigsaw:bundled:digits", "noise+digits-jigsaw"),
    ],
)
def test_names_are_short_and_safe_for_files(source, name):
    assert source_name(source) == name


def test_which_sources_have_a_test_split():
    assert has_test_split("cifar10")
    assert has_test_split("bundled:digits + jigsaw:mnist")
    assert not has_test_split("folder:x")
    assert not has_test_split("cifar10 + folder:x")
    assert not has_test_split("sun397")
    assert split_mixture("a + b:c+d") == ["a", "b:c+d"]


def test_mixtures_concatenate(tmp_path):
    fill(tmp_path, {"one": 2, "two": 3})
    images = load(f"folder:{tmp_path}/one + folder:{tmp_path}/two")
    assert len(images) == 5
    assert images.fetch([4])[0, 0, 0, 0] == 4


@given(st.integers(8, 21), st.integers(1, 4))
def test_jigsaw_permutes_tiles(size, count):
    tensor = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    whole = ImageSet.of("whole", HeldPixels(tensor, ["x"] * count), torch.zeros(count), ["a"])
    mixed = jigsaw(whole)
    assert (mixed.name, mixed.classes) == ("whole-jigsaw", ())
    result = mixed.fetch(range(count))
    tile, used = size // 4, size // 4 * 4

    def tiles(image):
        cut = image[:, :used, :used].unfold(1, tile, tile).unfold(2, tile, tile)
        return [
            bytes(cut[:, row, column].flatten().tolist()) for row in range(4) for column in range(4)
        ]

    for before, after in zip(tensor, result, strict=True):
        assert sorted(tiles(before)) == sorted(tiles(after))
        assert torch.equal(before[:, used:], after[:, used:])
    assert torch.equal(mixed.fetch([count - 1])[0], result[-1])
    assert not torch.equal(tensor, result)


def write_mnist(folder, counts):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in counts.items():
        pixels = np.arange(count * 28 * 28, dtype=np.uint8)
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = (np.arange(count) % 3).astype(np.uint8)
        header = struct.pack(">II", 0x801, count)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def test_torchvision_sets_on_disk(tmp_path):
    write_mnist(tmp_path, {"train": 7, "t10k": 4})
    data = DataConfig(image_size=16, channels=3, root=str(tmp_path))
    sizes = {
        split: len(open_source("mnist", split=split, data=data))
        for split in ("train", "test", "all")
    }
    assert sizes == {"train": 7, "test": 4, "all": 11}
    images = load_source("mnist", split="train", data=data, loader=LOADER)
    assert images.fetch([0]).shape == (1, 3, 16, 16)
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert images.classes == ("0 - zero", "1 - one", "2 - two")
    assert images.name_of(2) == "mnist #2"


def test_failed_downloads_name_source_folder_and_remedy(tmp_path, monkeypatch):
    def offline(*_):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", offline)
    data = DataConfig(root=str(tmp_path / "data"))
    with pytest.raises(UserError, match=r"cifar10: not found in data\.root=.*data .*no network"):
        open_source("cifar10", split="train", data=data)
    with pytest.raises(UserError, match="imagenet: not found .* cannot be downloaded"):
        open_source("imagenet", split="train", data=data)

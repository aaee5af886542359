"""Image lists."""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from atd.config import DataConfig, LoaderConfig
from atd.data.image_list import _entry, image_list
from atd.data.sources import has_test_split, load_source, open_source, source_name
from atd.errors import UserError

DATA = DataConfig(image_size=8, channels=3)


def draw(root, *paths):
    """Writes a different image at each path."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 9)).save(root / path)


def write(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_order_labels_and_pixels_are_those_of_the_list(tmp_path):
    draw(tmp_path, "x.png", "with two spaces/y.png", "z.png")
    file = write(tmp_path / "list.txt", "z.png 7", "", "x.png 3 ", "  with two spaces/y.png\t7\r")
    images = load_source(f"list:{file}", split="test", data=DATA, loader=LoaderConfig())
    assert images.fetch([0, 1, 2])[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert images.classes == ("3", "7")
    assert images.labels.tolist() == [1, 0, 1]
    assert images.name_of(2) == f"{tmp_path}/with two spaces/y.png"
    assert images.name == "list"


def test_classes_with_folders_of_their_own_are_called_like_them(tmp_path):
    paths = ("set/dog/1.png", "set/cat/2.png", "set/dog/3.png", "set/emu/3.png")
    draw(tmp_path, *paths)
    lines = [f"{path} {label}" for path, label in zip(paths, (5, 9, 5, 0), strict=True)]
    images = image_list(str(write(tmp_path / "a.txt", *lines)), DATA)
    assert images.classes == ("emu", "dog", "cat")
    assert images.labels.tolist() == [1, 2, 1, 0]
    shared = write(tmp_path / "b.txt", *lines[:3], "set/dog/1.png 0")
    assert image_list(str(shared), DATA).classes == ("0", "5", "9")


@pytest.mark.parametrize("labels", [(-1, -1), (0, -1), (4, 4)])
def test_no_labels_without_two_classes(tmp_path, labels):
    draw(tmp_path, "a/1.png", "b/2.png")
    lines = [f"a/1.png {labels[0]}", f"b/2.png {labels[1]}"]
    images = image_list(str(write(tmp_path / "list.txt", *lines)), DATA)
    assert images.classes == ()
    assert images.labels.tolist() == [-1, -1]


def test_paths_are_relative_to_the_list_or_to_a_root(tmp_path, monkeypatch):
    draw(tmp_path / "pictures@home", "1.png")
    file = write(tmp_path / "lists" / "mine.txt", "1.png -1")
    assert len(open_source(f"list:{file}@{tmp_path}/pictures@home", split="test", data=DATA)) == 1
    beside = write(tmp_path / "pictures@home" / "mine.txt", "1.png -1")
    assert len(open_source(f"list:{beside}", split="test", data=DATA)) == 1
    monkeypatch.chdir(tmp_path)
    assert len(open_source("list:lists/mine.txt@pictures@home", split="test", data=DATA)) == 1


@pytest.mark.parametrize("folder", ["images_classic", "images_largescale"])
def test_openood_keeps_images_apart_from_lists(tmp_path, folder):
    (tmp_path / "images_classic").mkdir()
    draw(tmp_path / folder, "svhn/test/1.png")
    file = write(tmp_path / "benchmark_imglist/cifar10/test_svhn.txt", "svhn/test/1.png -1")
    assert image_list(str(file), DATA).name_of(0) == f"{tmp_path}/{folder}/svhn/test/1.png"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "names no images"),
        (("", "   "), "names no images"),
        (("1.png 0", "", "1.png"), "line 3: '1.png' is not a path and a label"),
        (("1.png cat",), "line 1: '1.png cat' is not"),
        (("1.png 0.5",), "line 1"),
        (("1.png -2",), "line 1"),
        (("3",), "line 1"),
        (("1.png 0", "/1.png 0"), "line 2: /1.png must lie below"),
        (("C:\\1.png 0",), "line 1: .* must lie below"),
        (("a/../../1.png 0",), "line 1: .* must lie below"),
        (("..\\1.png 0",), "line 1: .* must lie below"),
        (("1.png 0", "gone.png 0", "lost.png 1"), r"2 of its 3 images are missing, .*gone\.png"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_list(tmp_path, lines, message):
    draw(tmp_path, "1.png")
    file = write(tmp_path / "list.txt", *lines)
    with pytest.raises(UserError, match=message) as caught:
        image_list(str(file), DATA)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_lists(tmp_path):
    with pytest.raises(UserError, match="no such list .*nowhere.txt"):
        open_source(f"list:{tmp_path}/nowhere.txt", split="test", data=DATA)
    with pytest.raises(UserError, match="no such list"):
        open_source(f"list:{tmp_path}", split="test", data=DATA)
    draw(tmp_path, "1.png")
    with pytest.raises(UserError, match="not readable as a list"):
        open_source(f"list:{tmp_path}/1.png", split="test", data=DATA)
    with pytest.raises(UserError):
        open_source("list:", split="test", data=DATA)


@given(
    st.text(st.characters(exclude_characters="\n:\\", exclude_categories=["Cs"]), min_size=1),
    st.integers(-1, 999),
)
def test_any_path_below_the_root_is_read_as_it_stands(path, label):
    path = path.strip()
    assume(path and not path.startswith("/") and ".." not in path)
    assert _entry(f"{path} {label}\r", "here") == (path, label)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("list:x/benchmark_imglist/cifar10/test_svhn.txt", "svhn"),
        ("list:train_cifar10.txt@some/root", "cifar10"),
        ("list:my birds.txt", "my_birds"),
        ("list:test_.txt", "test_"),
    ],
)
def test_names(source, name):
    assert source_name(source) == name
    assert not has_test_split(source)


def test_lists_and_names_need_not_be_utf8(tmp_path):
    names = [b"caf\xe9.png", b"\xff.png"]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            Image.new("RGB", (8, 8)).save(file, "PNG")
    (tmp_path / "list.txt").write_bytes(b"".join(name + b" -1\n" for name in names))
    images = image_list(str(tmp_path / "list.txt"), DATA)
    assert [os.fsencode(name).rpartition(b"/")[2] for name in images.names()] == names
    assert len(images.fetch([0, 1])) == 2

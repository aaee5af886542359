"""Images that a set, or two sets, hold more than once."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image

from atd.config import load
from atd.data.splits import load_splits


@pytest.fixture
def folder(tmp_path):
    for number, (name, index) in enumerate((n, i) for n in ("cat", "dog") for i in range(20)):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("L", (8, 8), 5 * number).save(tmp_path / name / f"{index:02}.png")
    return tmp_path


def said(folder, capsys):
    words = [f"data.id=folder:{folder}", "data.outliers=bundled:capitals", "data.image_size=8"]
    load_splits(load(None, words))
    return capsys.readouterr().err


@pytest.mark.parametrize("copies", [1, 4])
def test_pictures_in_two_classes_are_named(folder, copies, capsys):
    for index in range(copies):
        shutil.copy(folder / "cat" / f"{index:02}.png", folder / "dog" / f"copy{index}.png")
    lines = said(folder, capsys).splitlines()
    named = [line for line in lines if "contradict" in line]
    assert named
    assert "/cat/00.png" in " ".join(named) or copies > 1


@pytest.mark.parametrize("copies", [1, 5])
def test_copies_in_one_class_are_counted_without_contradiction(folder, copies, capsys):
    for index in range(copies):
        shutil.copy(folder / "cat" / f"{index:02}.png", folder / "cat" / f"copy{index}.png")
    told = said(folder, capsys)
    assert "contradict" not in told
    assert "image(s) are copies" in told or "also lie in" in told


def test_without_copies_nothing_is_said(folder, capsys):
    assert "folder" not in said(folder, capsys).replace(str(folder), "")

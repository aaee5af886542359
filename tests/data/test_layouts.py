"""Folders that hold splits, in the ways that people keep them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atd.config import Config, DataConfig, load
from atd.data.layouts import find_layout
from atd.data.sources import open_source
from atd.data.splits import load_splits
from atd.errors import UserError

_seed = iter(range(10**9))


def fill(folder, count=6):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(next(_seed)).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def names(images):
    return {name.split("/")[-2] for name in images.names()}


def splits(root, **data):
    words = [f"data.{key}={value}" for key, value in data.items()]
    return load_splits(
        load(None, [f"data.id=folder:{root}", "data.outliers=bundled:capitals", "data.image_size=8",
                    *words])
    )  # fmt: skip


def imagefolder(root, *parts):
    for part in parts:
        for name in ("cat", "dog"):
            fill(root / part / name)


def mvtec(root):
    fill(root / "train" / "good", 12)
    fill(root / "test" / "good")
    for defect in ("bent", "cut wide"):
        fill(root / "test" / defect)
        fill(root / "ground_truth" / defect)


@pytest.mark.parametrize(
    "parts",
    [("train", "val", "test"), ("Training", "Validation", "Testing"), ("train2017", "val2017",
     "test-images")],
)  # fmt: skip
def test_an_imagefolder_is_read_as_what_it_is(tmp_path, parts, capsys):
    imagefolder(tmp_path, *parts)
    found = splits(tmp_path)
    assert found.id_train.classes == found.id_test.classes == found.id_val.classes == ("cat", "dog")
    for images, part in zip((found.id_train, found.id_val, found.id_test), parts, strict=True):
        assert len(images) == 12
        assert all(f"/{part}/" in name for name in images.names())
    told = [line for line in capsys.readouterr().err.splitlines() if "holds splits" in line]
    assert len(told) == 1
    assert all(f"{part}/ as" in told[0] for part in parts)


def test_train_and_test_alone_hold_validation_images_out_of_train(tmp_path):
    imagefolder(tmp_path, "train", "test")
    found = splits(tmp_path)
    assert len(found.id_train) + len(found.id_val) == 12
    assert all("/train/" in name for name in found.id_val.names())
    assert all("/test/" in name for name in found.id_test.names())


def test_train_and_val_alone_hold_test_images_out_of_train(tmp_path):
    imagefolder(tmp_path, "train", "val")
    found = splits(tmp_path)
    assert len(found.id_train) + len(found.id_test) == 12
    assert all("/val/" in name for name in found.id_val.names())


def test_mvtec_defects_are_ood_tests(tmp_path, capsys):
    mvtec(tmp_path)
    found = splits(tmp_path)
    assert names(found.id_train) | names(found.id_val) | names(found.id_test) == {"good"}
    assert all("/test/good/" in name for name in found.id_test.names())
    defects = {name: images for name, images in found.ood_test.items() if name in "bent cut_wide"}
    assert {name: names(images) for name, images in defects.items()} == {
        "bent": {"bent"},
        "cut_wide": {"cut wide"},
    }
    said = capsys.readouterr().err
    assert "test/bent/ as OOD test set" in said
    assert "ground_truth/ left out" in said


def test_defects_without_a_class_folder_in_train(tmp_path):
    fill(tmp_path / "train", 12)
    fill(tmp_path / "test" / "normal")
    fill(tmp_path / "test" / "broken")
    found = splits(tmp_path, ood_test="[bundled:symbols]")
    assert set(found.ood_test) == {"broken", "symbols"}
    assert names(found.id_test) == {"normal"}


@pytest.mark.parametrize("defects", [("broken",), ("broken", "bent")])
def test_defects_that_nothing_tells_from_id_are_refused(tmp_path, defects):
    fill(tmp_path / "train", 12)
    for defect in defects:
        fill(tmp_path / "test" / defect)
    with pytest.raises(UserError, match=r"which of the folders in test/ .* data\.ood_test=\["):
        splits(tmp_path)


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize("besides", [(), ("cat",)])
def test_what_is_no_training_class_is_not_taken_for_id(tmp_path, part, besides):
    imagefolder(tmp_path, "train")
    for name in ("broken", *besides):
        fill(tmp_path / part / name)
    with pytest.raises(UserError, match=rf"{part}/ holds broken/, .* data\.id_test or in data"):
        splits(tmp_path)


@pytest.mark.parametrize(
    "extra", ["unlabelled/a.png", "preview.png", "Train_2/a.png", "train/train/a.png"]
)
def test_splits_beside_other_things_are_refused_with_the_remedy(tmp_path, extra):
    imagefolder(tmp_path, "train", "test")
    if extra.startswith("train/train"):
        imagefolder(tmp_path / "train", "train", "test")
    fill(tmp_path / "spare", 1)
    (tmp_path / extra).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "spare" / "0.png").rename(tmp_path / extra)
    (tmp_path / "spare").rmdir()
    with pytest.raises(UserError, match=r"splits .*; name "):
        splits(tmp_path)


def test_categories_that_hold_splits_are_refused(tmp_path):
    mvtec(tmp_path / "bottle")
    mvtec(tmp_path / "cable")
    with pytest.raises(UserError, match=r"its subfolder bottle/ holds splits of its own; name one"):
        splits(tmp_path)


def test_the_only_subfolder_may_be_the_one_with_splits(tmp_path):
    imagefolder(tmp_path / "images", "train", "test")
    with pytest.raises(UserError, match=f"e.g. folder:{tmp_path}/images"):
        splits(tmp_path)


def test_train_alone_has_its_classes(tmp_path):
    imagefolder(tmp_path, "train")
    assert open_source(f"folder:{tmp_path}", split="test", data=DataConfig()).classes == (
        "cat",
        "dog",
    )


@pytest.mark.parametrize("other", ["bus", "car"])
def test_a_class_may_be_called_train(tmp_path, other):
    fill(tmp_path / "train")
    fill(tmp_path / other)
    images = open_source(f"folder:{tmp_path}", split="train", data=DataConfig())
    assert images.classes == (other, "train")


def test_an_ood_set_with_splits_gives_its_test_images(tmp_path):
    imagefolder(tmp_path, "train", "test")
    data = DataConfig()
    assert all("/test/" in n for n in open_source(f"folder:{tmp_path}", split="test",
                                                  data=data).names())  # fmt: skip
    assert len(open_source(f"folder:{tmp_path}", split="all", data=data)) == 24


def test_files_alone_decide():
    assert find_layout("x", ["a.png", "b.png"]) is None
    assert find_layout("x", ["cat/a.png", "dog/test/b.png"]) is None
    layout = find_layout("x", ["train/good/a.png", "test/good/b.png", "val/good/c.png",
                               "val/bad/d.png"])  # fmt: skip
    assert layout is not None
    assert layout.folders == {"train": "train", "val": "val/good", "test": "test/good"}


def test_layout_of_default_config_is_untouched():
    assert load_splits(Config()).id_test.name == "digits"

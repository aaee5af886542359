"""The sets of an evaluation are those of the run where its images are at hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from atd.config import load
from atd.data.evaluation_sets import load_evaluation_sets
from atd.data.splits import load_splits
from atd.errors import UserError

WORDS = ["data.id=bundled:digits", "data.outliers=bundled:capitals", "data.image_size=8"]
WORDS += ["data.ood_test=bundled:lowercase", "data.ood_limit=10", "data.outlier_limit=40"]


def same(one, other) -> bool:
    return torch.equal(one.fetch(range(len(one))), other.fetch(range(len(other))))


def test_they_are_the_runs_own_after_a_folder_was_renamed_too(tiny_yaml) -> None:
    config = load(tiny_yaml, WORDS)
    for names in ({}, {"ID training": "what it was called"}):
        run, found = load_splits(config, names), load_evaluation_sets(config, names=names)
        assert found.id_val is not None
        assert same(found.id_val, run.id_val)
        assert same(found.id_test, run.id_test)
        assert not found.left_out


def test_without_outliers_the_id_images_are_still_held_out(tiny_yaml) -> None:
    run = load_splits(load(tiny_yaml, WORDS))
    found = load_evaluation_sets(load(tiny_yaml, [*WORDS, "data.outliers=folder:nowhere"]))
    assert found.id_val is not None
    assert same(found.id_val, run.id_val)
    assert [line.partition(":")[0] for line in found.left_out] == [
        "overlap of the test sets with data.outliers"
    ]


def test_an_overlap_with_outliers_at_hand_is_still_refused(tiny_yaml) -> None:
    words = [*WORDS, "data.id=folder:nowhere", "data.id_test=bundled:digits"]
    words += ["data.ood_test=twice=bundled:capitals"]
    with pytest.raises(UserError, match="share"):
        load_evaluation_sets(load(tiny_yaml, words))


def test_what_is_asked_for_and_not_there_is_named(tiny_yaml) -> None:
    with pytest.raises(UserError, match=r"data\.id_test=SOURCE"):
        load_evaluation_sets(load(tiny_yaml, [*WORDS, "data.id=folder:nowhere"]))
    config = load(tiny_yaml, [*WORDS, "data.ood_test=svhn", "data.root=nowhere"])
    with pytest.raises(UserError, match="nothing is downloaded"):
        load_evaluation_sets(config, downloads=False)


def test_what_the_parts_of_a_folder_leave_out_is_one_line_and_one_sum(tmp_path, tiny_yaml) -> None:
    for index in range(40):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        (tmp_path / f"broken{index}.png").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("")
    words = [*WORDS, f"data.id=folder:{tmp_path}", "data.skip_corrupt=true"]
    found = load_evaluation_sets(load(tiny_yaml, words))
    parts = [found.id_train, found.id_val, found.id_test]
    assert all("unreadable images" in images.left_out.counts for images in parts if images)
    (line,) = found.unused_files()
    assert line.startswith(f"files of {tmp_path.name}: 1 .txt files (notes.txt), 40 unreadable im")

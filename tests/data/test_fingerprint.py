"""Other images are noticed, the same ones are not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from atd.data.fingerprint import changed_images, fingerprint_images
from atd.data.images import HeldPixels, ImageSet
from atd.data.splits import DataSplits


def images(name, count=200, names=None):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    pixels = torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    names = names or [f"{name}/{index}.png" for index in range(count)]
    return ImageSet.of(name, HeldPixels(pixels, names), torch.arange(count) % 2, ("a", "b"))


@pytest.fixture
def splits():
    return DataSplits(
        id_train=images("train"),
        id_val=images("val", 7),
        id_test=images("test", 9),
        outlier_train=images("outliers"),
        outlier_val=images("held", 1),
        ood_test={"far": images("far")},
        roles={"far": "far"},
        selection=frozenset(),
    )


def difference(splits, **others):
    before = json.loads(json.dumps(fingerprint_images(splits)))
    return changed_images(before, fingerprint_images(replace(splits, **others)))


def test_the_same_images_are_the_same(splits):
    again = replace(splits.id_train)
    assert difference(splits, id_train=again, ood_test={"far": images("far")}) == ""
    streamed = replace(splits.id_train, pixels=Streamed(splits.id_train.pixels))
    assert difference(splits, id_train=streamed) == ""


class Streamed:
    """The same images, not held in memory."""

    def __init__(self, held):
        self.held = held

    def __len__(self):
        return len(self.held)

    def fetch(self, rows):
        return self.held.fetch(rows)

    def name_of(self, row):
        return self.held.name_of(row)


def test_fewer_and_more_images_are_counted(splits):
    fewer = splits.id_train.subset(torch.arange(199))
    said = difference(splits, id_train=fewer)
    assert said == "ID training (train) had 200 images and has 199 now"
    assert "far (far) had 200 images and has 3 now" in difference(
        splits, ood_test={"far": images("far", 3)}
    )


def test_one_other_file_is_noticed(splits):
    names = [splits.id_train.name_of(index) for index in range(200)]
    names[77] = "train/another.png"
    said = difference(splits, id_train=images("train", names=names))
    assert said == "ID training (train) has 200 images as before, but other files"


def test_one_other_label_is_noticed(splits):
    labels = splits.outlier_train.labels.clone()
    labels[3] = 1 - labels[3]
    said = difference(splits, outlier_train=replace(splits.outlier_train, labels=labels))
    assert said == "outliers (outliers) has 200 images as before, but other labels"
    renamed = replace(splits.outlier_train, classes=("a", "c"))
    assert "other labels" in difference(splits, outlier_train=renamed)


def test_outliers_that_a_later_version_leaves_unread_are_no_difference(splits):
    assert not difference(splits, outlier_train=None, outlier_val=None)
    assert difference(splits, outlier_train=None, id_val=images("val", 3)).startswith("ID val")


def test_other_pixels_under_the_same_names_are_noticed(splits):
    held = splits.id_train.pixels
    darker = replace(splits.id_train, pixels=HeldPixels(held.tensor // 2, held.names))
    assert "other pixels" in difference(splits, id_train=darker)


def test_few_images_are_decoded(splits):
    fetched = []

    class Counted(Streamed):
        def fetch(self, rows):
            fetched.extend(rows)
            return super().fetch(rows)

    fingerprint_images(
        replace(splits, id_train=replace(splits.id_train, pixels=Counted(splits.id_train.pixels)))
    )
    assert len(fetched) == len(set(fetched)) == 32
    assert min(fetched) == 0
    assert max(fetched) == 199


def test_further_sets_that_differ_are_counted(splits):
    said = difference(splits, id_train=images("train", 3), id_val=images("val", 3), ood_test={})
    assert said == "ID training (train) had 200 images and has 3 now (and 2 more sets differ)"
    assert difference(splits, ood_test={}) == "OOD test far (far) had 200 images and has 0 now"

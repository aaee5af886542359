"""The sets of a run."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from PIL import Image

from atd.config import Config, DataConfig, LoaderConfig
from atd.data.altered import ALTERATIONS
from atd.data.fetching import batches
from atd.data.sources import open_source
from atd.data.splits import load_splits
from atd.errors import UserError

SETS = ("id_train", "id_val", "id_test", "outlier_train", "outlier_val")


def fill(folder, counts, start):
    """Writes `counts[name]` different images below each name."""
    number = start
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            colour = (number % 256, number // 256, 77)
            Image.new("RGB", (8, 8), colour).save(folder / name / f"{number:04}.png")
            number += 1


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "pets" / "train", {"cat": 20, "dog": 30}, 0)
    fill(tmp_path / "pets" / "test", {"dog": 6, "cat": 4}, 1000)
    fill(tmp_path / "food", {"": 40}, 2000)
    fill(tmp_path / "far", {"": 12}, 3000)
    fill(tmp_path / "near", {"": 8}, 4000)
    return tmp_path


def load(root, seed=0, memory=64, **options):
    base = {
        "id": f"folder:{root}/pets/train",
        "outliers": f"folder:{root}/food",
        "ood_test": [f"folder:{root}/far"],
        "image_size": 8,
    }
    config = Config(data=DataConfig(**(base | options)), loader=LoaderConfig(memory_mb=memory))
    return load_splits(config)


def contents(images):
    return {pixels.tobytes() for pixels in images.fetch(torch.arange(len(images))).numpy()}


def all_sets(splits):
    return [getattr(splits, name) for name in SETS] + list(splits.ood_test.values())


@pytest.mark.parametrize("memory", [0, 64])
def test_everything_is_split_without_loss_or_overlap(root, memory):
    splits = load(root, memory=memory, near_test=[f"folder:{root}/near"])
    assert [len(images) for images in all_sets(splits)] == [36, 4, 10, 36, 4, 12, 8]
    for one, other in itertools.combinations(map(contents, all_sets(splits)), 2):
        assert one.isdisjoint(other)
    assert splits.roles == {"far": "far", "near": "near"}
    assert splits.selection == frozenset()
    assert splits.id_train.classes == splits.id_test.classes == ("cat", "dog")
    assert splits.id_test.labels.bincount().tolist() == [4, 6]
    assert splits.id_train.in_memory == (memory > 0)


def test_splits_depend_neither_on_random_state_nor_on_the_folder_above(root, tmp_path):
    first = load(root)
    torch.rand(100)
    shutil.copytree(root / "pets", tmp_path / "moved" / "pets")
    second = load(root, id=f"folder:{tmp_path}/moved/pets/train")
    for one, other in zip(all_sets(first), all_sets(second), strict=True):
        everything = torch.arange(len(one))
        assert torch.equal(one.fetch(everything), other.fetch(everything))


def test_own_test_set_with_other_class_order(root):
    splits = load(root, id_test=f"folder:{root}/pets/test")
    assert len(splits.id_test) == 10
    assert len(splits.id_train) + len(splits.id_val) == 50
    for index in range(10):
        name = splits.id_test.classes[splits.id_test.labels[index]]
        assert f"/{name}/" in splits.id_test.name_of(index)
    fill(root / "pets" / "test", {"emu": 2}, 1100)
    with pytest.raises(UserError, match="class emu is not a class"):
        load(root, id_test=f"folder:{root}/pets/test")


def test_flat_id_folders_work(root):
    splits = load(root, id=f"folder:{root}/near")
    assert splits.id_train.classes == ()
    assert set(splits.id_train.labels.tolist()) == {-1}


def test_limits_are_subsets(root):
    whole = load(root)
    less = load(root, id_limit=20, outlier_limit=10, ood_limit=5)
    assert [len(images) for images in all_sets(less)] == [18, 2, 10, 9, 1, 5]
    assert contents(less.id_train) <= contents(whole.id_train) | contents(whole.id_val)
    assert contents(less.ood_test["far"]) <= contents(whole.ood_test["far"])
    assert contents(less.id_test) == contents(whole.id_test)


def test_offline_fallback_keeps_training_and_validation_material_apart(root, monkeypatch):
    monkeypatch.setattr("atd.data.bundled._PROCEDURAL", 200)
    splits = load(root, id="bundled:digits", outliers="", channels=1)
    for images, origin in [
        (splits.outlier_train, splits.id_train),
        (splits.outlier_val, splits.id_val),
    ]:
        made = [name for name in images.names() if not name.startswith("bundled:")]
        others = {name.split(" #")[0] for name in images.names()} - {
            name.split(" #")[0] for name in made
        }
        assert others == {"bundled:fallback", "bundled:procedural"}
        # a fifth to a half: neither drowns the other
        assert 0.2 < len(made) / len(images) <= 0.5
        assert {name.split(" of ")[1] for name in made} <= set(origin.names())
        assert {name.split(" of ")[0] for name in made} == set(ALTERATIONS)
    assert contents(splits.outlier_train).isdisjoint(contents(splits.outlier_val))


def test_an_id_source_of_two_parts_is_altered_as_a_whole(root, monkeypatch):
    monkeypatch.setattr("atd.data.splits._FALLBACK", ("bundled:photo-china",))
    two = "bundled:digits-0-7 + bundled:digits-8-9"
    splits = load(root, id=two, outliers="", id_limit=200, channels=1)
    made = [name for name in splits.outlier_train.names() if "photo-china" not in name]
    assert len(made) == min(900, 6 * 180)
    assert {name.split(" of ")[1] for name in made} <= set(splits.id_train.names())
    assert contents(splits.outlier_train).isdisjoint(contents(splits.id_train))


def test_jigsaws_of_the_id_source_come_from_the_split_they_serve(root):
    source = f"jigsaw:folder:{root}/pets/train"
    for index, path in enumerate(sorted((root / "pets" / "train").rglob("*.png"))):
        image = Image.new("RGB", (8, 8))
        image.putdata([(index, 3 * pixel, 9) for pixel in range(64)])
        image.save(path)
    splits = load(root, outliers=source, ood_test=[f"mixed={source}"])
    for made, origin in [
        (splits.outlier_train, splits.id_train),
        (splits.outlier_val, splits.id_val),
        (splits.ood_test["mixed"], splits.id_test),
    ]:
        assert made.names() == [f"jigsaw of {name}" for name in origin.names()]


def test_names(root):
    far, near = f"folder:{root}/far", f"folder:{root}/near"
    fill(root / "other" / "far", {"test": 3}, 5000)
    other = f"folder:{root}/other/far/test"
    assert list(load(root, ood_test=[far, other]).ood_test) == ["far", "far-2"]
    assert list(load(root, ood_test=[far, f"far={near}"]).ood_test) == ["far-2", "far"]
    named = load(root, ood_test=[f"my.set-1={far}"]).ood_test
    assert named["my.set-1"].name == "my.set-1"
    with pytest.raises(UserError, match="two sets are called x"):
        load(root, ood_test=[f"x={far}"], near_test=[f"x={near}"])
    with pytest.raises(UserError, match="listed twice"):
        load(root, ood_test=[far, f"again={far}"])
    with pytest.raises(UserError, match="cannot name a set"):
        load(root, ood_test=[f"my set={far}"])


def test_classes_with_one_image(root):
    fill(root / "pets" / "train", {"emu": 1}, 6000)
    with pytest.raises(UserError, match=r"class emu has one image \(.*6000\.png\)"):
        load(root)


def test_too_few_images(root):
    fill(root / "few", {"": 2}, 6000)
    with pytest.raises(UserError, match="few: 2 image.* too few"):
        load(root, id=f"folder:{root}/few")
    with pytest.raises(UserError, match="few: 2 image.* too few"):
        load(root, outliers=f"folder:{root}/few")


def copy(root, source, target):
    first = sorted((root / source).rglob("*.png"))
    for number, path in enumerate(first):
        # Another format and size: it is the picture that counts.
        Image.open(path).resize((16, 16)).save(root / target / f"copy{number}.bmp")
        break
    return first[0]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("pets/train", "food", "ID .* and outliers|ID .* and OOD validation"),
        ("pets/test", "food", "ID test .* and outliers|ID test .* and OOD validation"),
        ("pets/train", "far", "OOD test .* and ID training|OOD test .* and ID validation"),
        ("food", "far", "OOD test .* and outliers|OOD test .* and OOD validation"),
    ],
)
def test_shared_images_are_found_by_content_and_named(root, source, target, message):
    path = copy(root, source, target)
    with pytest.raises(UserError, match=message) as caught:
        load(root, id_test=f"folder:{root}/pets/test")
    assert str(path) in str(caught.value)
    assert "copy0.bmp" in str(caught.value)


def test_ood_images_that_are_id_test_images_are_left_out(root, capsys):
    copy(root, "pets/test", "far")
    splits = load(root, id_test=f"folder:{root}/pets/test")
    assert len(splits.ood_test["far"]) == 12
    assert len(splits.id_test) == 10
    notice = capsys.readouterr().err
    assert "1 image(s) left out" in notice
    assert "copy0.bmp" in notice
    with pytest.raises(UserError, match="all images also lie in ID test"):
        load(root, id_test=f"folder:{root}/pets/test", ood_test=[f"folder:{root}/pets/test"])


def test_copies_within_the_id_images_are_left_out_of_the_tests(root, capsys):
    for path in sorted((root / "pets" / "train" / "dog").glob("*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    splits = load(root)
    for one, other in itertools.combinations(map(contents, all_sets(splits)[:3]), 2):
        assert one.isdisjoint(other)
    assert "left out" in capsys.readouterr().err


def test_a_test_set_may_serve_selection_but_is_marked(root):
    far, near = f"folder:{root}/far", f"folder:{root}/near"
    splits = load(root, ood_val=far, ood_test=[far, near])
    assert splits.selection == {"far"}
    assert len(splits.outlier_train) == 40
    assert contents(splits.outlier_val) == contents(splits.ood_test["far"])
    with pytest.raises(UserError, match="outliers .* and OOD validation .* share 40"):
        load(root, ood_val=f"folder:{root}/food")


def test_mistakes_in_test_names_are_found_before_anything_is_read(root, monkeypatch):
    monkeypatch.setattr("atd.data.overlap.settle", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match="unknown source"):
        load(root, ood_test=["svhm"])


def test_an_ood_set_may_be_a_single_image_but_not_empty(root):
    fill(root / "one", {"": 1}, 7000)
    splits = load(root, ood_test=[f"folder:{root}/one"])
    (only,) = splits.ood_test.values()
    ((pixels, _, rows),) = batches(only, torch.arange(len(only)).split(256))
    assert (pixels.shape, rows.tolist()) == ((1, 3, 8, 8), [0])
    (root / "none").mkdir()
    with pytest.raises(UserError, match="none: no images in") as caught:
        load(root, ood_test=[f"folder:{root}/none"])
    assert "\n" not in str(caught.value)


def test_an_ood_set_without_a_readable_image_is_refused_in_one_line(root):
    (root / "broken").mkdir()
    (root / "broken" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="none of its 1 images is readable") as caught:
        load(root, ood_test=[f"folder:{root}/broken"], skip_corrupt=True)
    assert "\n" not in str(caught.value)


def test_held_out_outliers_that_choose_the_epoch_mark_a_test_set(root, monkeypatch):
    folders = {"train": f"folder:{root}/food", "test": f"folder:{root}/far"}

    def open_svhn(source, *, split, data):
        name = folders[split] if source == "svhn" else source
        return open_source(name, split=split, data=data)

    for module in ("splits", "ood_tests"):
        monkeypatch.setattr(f"atd.data.{module}.open_source", open_svhn)
    near = f"folder:{root}/near"
    assert load(root, outliers="svhn", ood_test=["svhn", near]).selection == {"svhn"}

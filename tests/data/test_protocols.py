"""Evaluation protocols."""

from __future__ import annotations

import pytest
from PIL import Image

from atd.config import Config, DataConfig, LoaderConfig
from atd.data.protocols import is_same_set, protocol_id_test, protocol_tests
from atd.data.splits import load_splits
from atd.errors import UserError

FAR = ["mnist", "svhn", "texture", "places365"]
PAPER = ["mnist", "tiny_imagenet", "places365", "lsun", "isun", "birds", "flowers", "coil100"]
NUMBERS = iter(range(2**16))


def fill(folder, count):
    """Writes images that no other set holds."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{next(NUMBERS):05}.png" for _ in range(count)]
    for name in names:
        number = int(name[:5])
        Image.new("RGB", (8, 8), (number % 256, number // 256, 55)).save(folder / name)
    return names


@pytest.fixture
def openood(tmp_path):
    """ID images and a small folder in OpenOOD's layout."""
    for label in ("cat", "dog"):
        fill(tmp_path / "cifar10" / "train" / label, 10)
    fill(tmp_path / "food", 12)
    base = tmp_path / "openood"
    lists = base / "benchmark_imglist" / "cifar10"
    lists.mkdir(parents=True)
    for name in (*FAR, "cifar100", "tin"):
        files = fill(base / "images_classic" / name / "test", 4)
        # One image is not listed, as where OpenOOD leaves out what shows an ID class.
        lines = [f"{name}/test/{file} -1" for file in files[1:]]
        (lists / f"test_{name}.txt").write_text("\n".join(lines))
    tested = []
    for number, label in enumerate(("cat", "dog")):
        files = fill(base / "images_classic" / "cifar10" / "test" / label, 3)
        tested += [f"cifar10/test/{label}/{file} {number}" for file in files]
    (lists / "test_cifar10.txt").write_text("\n".join(tested))
    return tmp_path


def options(root, **more):
    base = {
        "id": f"folder:{root}/cifar10/train",
        "outliers": f"folder:{root}/food",
        "root": str(root),
        "image_size": 8,
    }
    return DataConfig(**(base | more))


def load(root, **more):
    return load_splits(Config(data=options(root, **more), loader=LoaderConfig(memory_mb=64)))


def test_no_protocol_no_sets(tmp_path):
    assert protocol_tests(options(tmp_path, ood_test=["svhn"])) == []
    assert protocol_id_test(options(tmp_path, openood="somewhere")) == ""


def test_openood_reads_the_lists(openood, capsys):
    splits = load(openood, protocol="openood", openood=str(openood / "openood"))
    assert list(splits.ood_test) == [*FAR, "cifar100", "tin"]
    assert {name for name, role in splits.roles.items() if role == "near"} == {"cifar100", "tin"}
    assert {len(images) for images in splits.ood_test.values()} == {3}
    assert splits.selection == frozenset()
    assert (len(splits.id_test), splits.id_test.classes) == (6, ("cat", "dog"))
    assert "/images_classic/cifar10/test/" in splits.id_test.name_of(0)
    assert len(splits.id_train) + len(splits.id_val) == 20
    assert capsys.readouterr().err == ""


def test_own_id_test_images_win_over_those_of_openood(openood):
    fill(openood / "own" / "cat", 2)
    fill(openood / "own" / "dog", 2)
    base = {"protocol": "openood", "openood": str(openood / "openood")}
    assert len(load(openood, id_test=f"folder:{openood}/own", **base).id_test) == 4


@pytest.mark.parametrize(("ood_val", "marked"), [("svhn/train", "svhn"), ("tiny_imagenet", "tin")])
def test_a_protocol_set_that_serves_selection_is_marked(openood, ood_val, marked):
    fill(openood / ood_val, 3)
    splits = load(
        openood,
        ood_val=f"folder:{openood}/{ood_val}",
        protocol="openood",
        openood=str(openood / "openood"),
    )
    assert splits.selection == {marked}


def test_without_other_validation_images_the_outliers_select(openood):
    fill(openood / "mnist" / "train", 8)
    base = {"protocol": "openood", "openood": str(openood / "openood")}
    outliers = f"folder:{openood}/food + folder:{openood}/mnist/train"
    assert load(openood, outliers=outliers, **base).selection == {"mnist"}


def test_a_protocol_replaces_both_lists_and_says_so(openood, capsys):
    data = options(
        openood,
        protocol="openood",
        openood=str(openood / "openood"),
        ood_test=["bundled:noise"],
        near_test=["nonsense"],
    )
    assert [name for name, _, _ in protocol_tests(data)] == [*FAR, "cifar100", "tin"]
    assert "replaces data.ood_test and data.near_test" in capsys.readouterr().err


def test_openood_without_lists_takes_whole_sets_with_a_notice(tmp_path, capsys):
    fill(tmp_path / "tiny_imagenet" / "val", 1)
    fill(tmp_path / "tiny_imagenet" / "train", 1)
    tests = protocol_tests(options(tmp_path, id="cifar100", protocol="openood"))
    assert tests == [
        ("mnist", "mnist", "far"),
        ("svhn", "svhn", "far"),
        ("texture", "dtd", "far"),
        ("places365", "places365", "far"),
        ("cifar10", "cifar10", "near"),
        ("tin", f"folder:{tmp_path}/tiny_imagenet/val", "near"),
    ]
    assert "do not compare" in capsys.readouterr().err


def test_paper_prefers_folders_to_torchvision(tmp_path, capsys):
    for name in PAPER[1:2] + PAPER[3:6] + PAPER[7:]:
        fill(tmp_path / name / "some" / "depth", 1)
    fill(tmp_path / "flowers" / "test", 1)
    (tmp_path / "mnist" / "raw").mkdir(parents=True)  # torchvision's own, without images
    tests = protocol_tests(options(tmp_path, id="bundled:digits", protocol="paper"))
    assert [name for name, _, _ in tests] == PAPER
    assert {role for _, _, role in tests} == {"far"}
    sources = {name: source for name, source, _ in tests}
    assert (sources["mnist"], sources["places365"]) == ("mnist", "places365")
    assert sources["flowers"] == f"folder:{tmp_path}/flowers/test"
    assert sources["birds"] == f"folder:{tmp_path}/birds"
    assert capsys.readouterr().err == ""


def test_all_missing_folders_are_named_at_once(tmp_path):
    fill(tmp_path / "isun", 1)
    (tmp_path / "birds").mkdir()
    with pytest.raises(UserError) as caught:
        protocol_tests(options(tmp_path, protocol="paper"))
    message = str(caught.value)
    assert "\n" not in message
    for name in ("tiny_imagenet", "lsun", "birds", "coil100"):
        assert f"{tmp_path}/{name}" in message
    for name in ("isun", "mnist", "flowers"):
        assert f"{tmp_path}/{name}" not in message


def test_all_missing_lists_are_named_at_once(openood):
    for name in ("test_tin.txt", "test_cifar10.txt"):
        (openood / "openood" / "benchmark_imglist" / "cifar10" / name).unlink()
    with pytest.raises(UserError, match=r"lacks test_tin\.txt, test_cifar10\.txt;"):
        protocol_tests(options(openood, protocol="openood", openood=str(openood / "openood")))


@pytest.mark.parametrize("lists", ["", "somewhere"])
def test_openood_is_defined_for_cifar_only(tmp_path, lists):
    data = options(tmp_path, id="bundled:digits", protocol="openood", openood=lists)
    with pytest.raises(UserError, match="cifar10 and cifar100, not digits"):
        protocol_tests(data)


@pytest.mark.parametrize(
    ("name", "source", "same"),
    [
        ("svhn", "svhn", True),
        ("svhn", "list:x/benchmark_imglist/cifar10/val_svhn.txt", True),
        ("texture", "dtd", True),
        ("flowers", "flowers102", True),
        ("tin", "folder:x/tiny_imagenet/train", True),
        ("tiny_imagenet", "folder:x/tiny_imagenet", True),
        ("svhn", "jigsaw:svhn", False),
        ("mnist", "kmnist", False),
    ],
)
def test_sets_are_known_by_their_names(name, source, same):
    assert is_same_set(name, source) == same

"""Every shipped config at smoke scale: the whole path, with images made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from atd.config import load
from atd.data.sources import split_mixture
from atd.data.splits import load_splits
from atd.detectors.base import Detector
from atd.pipeline import Run
from atd.training.processes import Processes

pytestmark = pytest.mark.usefixtures("unrendered")

SMALL = [
    "run.device=cpu",
    "run.compile=false",
    "data.near_test=[]",
    "data.id_limit=60",
    "data.outlier_limit=60",
    "data.ood_limit=10",
    "backbone.width=4",
    "pretrain.epochs=1",
    "pretrain.helper_epochs=1",
    "pretrain.min_steps=0",
    "pretrain.helper_min_steps=0",
    "pretrain.batch_size=16",
    "pretrain.steps=1",
    "atd.epochs=1",
    "atd.min_steps=0",
    "atd.batch_size=16",
    "atd.steps=1",
    "evaluate.tier=smoke",
    "evaluate.steps=1",
    "evaluate.limit=10",
    "evaluate.baselines=[mahalanobis]",
]


def photos(folder: Path, count: int, seed: int, mode: str = "RGB") -> Path:
    """Class folders of random images of several sizes."""
    generator = np.random.default_rng(seed)
    for index in range(count):
        target = folder / f"class{index % 2}"
        target.mkdir(parents=True, exist_ok=True)
        side = int(generator.integers(30, 50))
        pixels = generator.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(target / f"{index}.png")
    return folder


@pytest.mark.parametrize("name", ["cifar10", "cifar10_small", "folder"])
def test_a_config_runs_on_folders(name: str, tmp_path: Path) -> None:
    inside = photos(tmp_path / "id", 60, seed=0)
    outliers = photos(tmp_path / "outliers", 60, seed=1, mode="L")
    test = photos(tmp_path / "test", 10, seed=2)
    overrides = [
        f"run.dir={tmp_path / 'run'}",
        f"data.id=folder:{inside}",
        "data.id_test=",
        f"data.outliers=folder:{outliers}",
        "data.ood_val=",
        f"data.ood_test=[noise=folder:{test}]",
        *SMALL,
    ]
    results = Run(load(name, overrides), Processes("cpu")).execute()
    assert results.datasets["noise"].images == 10
    assert (tmp_path / "run" / "detector" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "report" / "report.md").is_file()


def test_cifar100_is_the_recipe_of_cifar10_on_other_images() -> None:
    ten, hundred = load("cifar10"), load("cifar100")
    assert hundred.run.name == "cifar100"
    assert hundred.data.id == "folder:data/cifar100/train"
    assert hundred.data.near_test == ["cifar10=folder:data/cifar10/test"]
    assert not any("cifar10/" in test for test in hundred.data.ood_test)
    for part in ("backbone", "pretrain", "atd", "evaluate"):
        assert getattr(hundred, part) == getattr(ten, part)
    assert [*hundred.data.ood_test] == [*ten.data.ood_test]


def test_own_pictures_get_outliers_of_many_kinds_chosen_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atd.data.bundled._PROCEDURAL", 200)
    inside = photos(tmp_path / "id", 60, seed=0)
    data = load("folder", [f"data.id=folder:{inside}"]).data
    assert not data.outliers
    assert not set(split_mixture(data.ood_val)) & {s.split("=")[1] for s in data.ood_test}
    for channels in (1, 3):
        options = [f"data.id=folder:{inside}", f"data.channels={channels}", "data.image_size=16"]
        splits = load_splits(load("folder", options))
        names = splits.outlier_train.names()
        assert {name.split(" #")[0] for name in names if "bundled:" in name} == {
            "bundled:fallback",
            "bundled:procedural",
        }
        assert sum(" of " in name for name in names) == 6 * len(splits.id_train)
        assert {name.split(" #")[0] for name in splits.outlier_val.names()} == set(
            split_mixture(data.ood_val)
        )
        assert not splits.selection
        assert splits.outlier_train.fetch([0]).shape == (1, channels, 16, 16)


@pytest.mark.slow
def test_a_pretrained_backbone_is_taken_as_it_is(tmp_path: Path, capsys) -> None:
    inside, test = photos(tmp_path / "id", 60, seed=0), photos(tmp_path / "test", 10, seed=2)
    torch.manual_seed(1)
    theirs = models.resnet18(num_classes=1000)
    state = {f"module.model.{key}": value for key, value in theirs.state_dict().items()}
    for name, value in (("mean", 0.45), ("std", 0.25)):
        state[f"module.normalize.{name}"] = torch.full((1, 3, 1, 1), value)
    torch.save({"model": state, "optimizer": {}, "epoch": 16}, tmp_path / "robust.pt")
    overrides = [
        f"run.dir={tmp_path / 'run'}",
        f"data.id=folder:{inside}",
        f"data.ood_test=[noise=folder:{test}]",
        f"backbone.weights={tmp_path / 'robust.pt'}",
        *SMALL,
        "data.image_size=32",
        "evaluate.baselines=[msp,mahalanobis]",
    ]
    run = Run(load("folder_pretrained", overrides), Processes("cpu"))
    results = run.execute()
    said = capsys.readouterr().out
    assert results.datasets["noise"].images == 10
    assert set(results.baselines) == {"mahalanobis"}  # it has no head for two classes
    assert "tells apart 1000 classes, but the ID data has 2: it is left out" in said
    detector = Detector.from_pretrained(tmp_path / "run" / "detector")
    kept = detector.backbone.state_dict()
    assert kept["mean"].flatten().tolist() == pytest.approx([0.45] * 3)
    for key, value in theirs.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(kept[f"model.{key}"], value)


@pytest.mark.parametrize("name", ["digits", "digits_near"])
def test_a_bundled_config_runs(name: str, tmp_path: Path) -> None:
    overrides = [item for item in SMALL if "near_test" not in item]
    config = load(name, [f"run.dir={tmp_path / 'run'}", *overrides])
    results = Run(config, Processes("cpu")).execute()
    assert set(results.mean) == {"clean", "in", "out", "both"}
    assert bool(results.mean_near) == (name == "digits_near")

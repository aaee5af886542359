"""`--dry-run` ends as the run would, as far as that shows without training, and leaves nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from atd.commands import train
from atd.planning.forecast import Expected
from atd.training.loop import is_finished


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Folders `flat`, `broken`, `few` and `empty` in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("flat", 20), ("broken", 20), ("few", 2), ("empty", 0)):
        (tmp_path / name).mkdir()
        for index in range(count):
            pixels = np.random.default_rng((count, index)).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    (tmp_path / "broken" / "7.png").write_bytes(b"no image")


@pytest.fixture
def refused(tiny_yaml, monkeypatch, capsys):
    monkeypatch.setattr("atd.outlook.forecast", lambda _: {"pretrain": Expected(1)})

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tiny_yaml), *words])
        with pytest.raises(SystemExit) as stop:
            train.main()
        assert stop.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return command


CASES = {
    "a missing folder": (["data.id=folder:nowhere"], "nowhere"),
    "missing outliers": (["data.outliers=folder:nowhere"], "nowhere"),
    "an unreadable image": (["data.id=folder:broken"], "7.png: not readable"),
    "too few images": (["data.id=folder:few"], "too few"),
    "an empty test set": (["data.ood_test=folder:empty"], "no images"),
    "no test set": (["data.ood_test="], "name at least one"),
    "no classes": (["data.id=folder:flat", "detector.kind=openmax"], "the class of every ID image"),
    "no weights": (["backbone.weights=nowhere.pt"], "nowhere.pt"),
    "too few for a fit": (["detector.kind=knn", "backbone.weights=WEIGHTS"], "detector.k=50"),
    "options that do not suit": (["detector.kind=vim", "detector.dimension=99"], "32 dimensions"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_dry_run_ends_as_the_run_would(case, refused, pictures, tiny_run, tmp_path):
    words, told = CASES[case]
    words = [word.replace("WEIGHTS", str(tiny_run.folder / "detector")) for word in words]
    words += ["data.id_limit=40", f"run.dir={tmp_path / 'run'}"]
    dry = refused("--dry-run", *words)
    assert told in dry
    assert not (tmp_path / "run").exists()
    assert refused(*words) == dry
    assert not is_finished(tmp_path / "run" / "state", "pretrain")


def test_a_folder_with_other_options_or_other_files_is_refused_before(refused, tiny_run, tmp_path):
    assert "run.seed" in refused("--dry-run", f"run.dir={tiny_run.folder}", "run.seed=1")
    (tmp_path / "letter.txt").touch()
    assert "not a run folder" in refused("--dry-run", f"run.dir={tmp_path}")


def test_what_would_be_downloaded_hides_no_other_mistake(refused, tmp_path):
    words = ["--dry-run", "data.id=cifar10", f"data.root={tmp_path}", f"run.dir={tmp_path / 'run'}"]
    assert "nowhere" in refused(*words, "data.outliers=folder:nowhere")


def test_what_would_be_downloaded_is_not(monkeypatch, tiny_yaml, tmp_path, capsys):
    words = [f"data.root={tmp_path / 'root'}", f"run.dir={tmp_path / 'run'}", "data.id=cifar10"]
    monkeypatch.setattr(sys, "argv", ["train.py", "--dry-run", "--config", str(tiny_yaml), *words])
    train.main()
    assert "nobody can tell yet (cifar10" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())

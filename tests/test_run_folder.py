"""A run folder belongs to one config, and says so before anything is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atd.config import load
from atd.errors import UserError
from atd.run_folder import RunFolder


@pytest.fixture
def make(tiny_yaml):
    return lambda *overrides: load(tiny_yaml, overrides)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "one")


def refused(folder, config):
    with pytest.raises(UserError) as error:
        folder.claim(config)
    text = str(error.value)
    assert str(folder.path) in text
    assert "\n" not in text
    return text


def test_claiming_writes_the_resolved_options(folder, make):
    folder.claim(make("atd.epsilon=8/255"))
    assert load(folder.config) == make("atd.epsilon=8/255")
    assert {entry.name for entry in folder.path.iterdir()} == {"config.yaml", "state"}
    folder.claim(make("atd.epsilon=8/255"))


@pytest.mark.parametrize(
    "change", ["atd.epsilon=0.01", "run.seed=1", "data.id_limit=7", "backbone.width=8"]
)
def test_other_training_options_need_another_folder(folder, make, change):
    folder.claim(make())
    before = folder.config.read_bytes()
    assert change.split("=")[0] in refused(folder, make(change))
    assert folder.config.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "run.dir=elsewhere",
        "loader.workers=1",
        "run.device=auto",
        "run.keep=3",
        "run.save_minutes=1",
        "run.rank_logs=true",
        "run.timeout_minutes=1",
    ],
)
def test_where_and_on_what_it_runs_may_change(folder, make, change):
    folder.claim(make())
    folder.finish()
    folder.claim(make(change))
    assert folder.is_finished(make(change))


def test_other_evaluation_options_only_unfinish_the_run(folder, make):
    folder.claim(make())
    assert not folder.is_finished(make())
    folder.finish()
    assert folder.is_finished(make())
    assert not folder.is_finished(make("evaluate.limit=3"))
    assert not folder.is_finished(make("atd.epochs=3"))
    folder.claim(make("evaluate.limit=3"))
    assert not folder.is_finished(make("evaluate.limit=3"))


def test_a_folder_that_does_not_exist_is_not_finished(folder, make):
    assert not folder.is_finished(make())
    assert not folder.path.exists()


def test_a_strangers_folder_is_left_alone(folder, make):
    folder.path.mkdir(parents=True)
    (folder.path / "thesis.tex").write_text("precious")
    assert "not a run folder" in refused(folder, make())
    assert [entry.name for entry in folder.path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken(folder, make):
    folder.path.mkdir(parents=True)
    folder.claim(make())
    assert folder.config.exists()


@pytest.mark.parametrize("below", [False, True])
def test_a_file_in_its_place_is_refused(tmp_path, make, below):
    (tmp_path / "file").write_text("")
    folder = RunFolder(tmp_path / "file" / "run" if below else tmp_path / "file")
    assert "cannot be written" in refused(folder, make())


@pytest.mark.parametrize("where", ["os.replace", "pathlib.Path.mkdir"])
def test_a_full_disk_is_named_and_later_forgotten(folder, make, monkeypatch, where):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        assert "No space left" in refused(folder, make())
    folder.claim(make())
    assert load(folder.config) == make()


def test_a_damaged_config_is_named(folder, make):
    folder.claim(make())
    folder.config.write_text("atd: {epochs: many}")
    assert "config.yaml" in refused(folder, make())


IMAGES = {"ID training": {"name": "x", "images": 3, "files": "a", "labels": "b", "pixels": "c"}}


def test_other_images_need_another_folder(folder, make):
    folder.claim(make())
    folder.claim_images(IMAGES)
    before = (folder.state / "data.json").read_bytes()
    folder.claim_images(IMAGES)
    with pytest.raises(UserError) as error:
        folder.claim_images({"ID training": {**IMAGES["ID training"], "images": 2}})
    text = str(error.value)
    assert "had 3 images and has 2 now" in text
    assert str(folder.path) in text
    assert "another run.name" in text
    assert "\n" not in text
    assert (folder.state / "data.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"ID training": 7}'])
def test_a_damaged_note_of_the_images_is_named(folder, make, content):
    folder.claim(make())
    (folder.state / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.json: damaged; delete it"):
        folder.claim_images(IMAGES)


def hold_elsewhere(folder):
    """Another process that has claimed the folder, until its input is closed."""
    code = (
        "import sys; from pathlib import Path; from atd.folder_lock import hold\n"
        f"hold(Path({str(folder.state / 'lock')!r})); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert other.stdout.readline() == b"held\n"
    return other


def test_two_commands_do_not_train_in_one_folder(folder, make, monkeypatch):
    folder.claim(make())
    folder.finish()
    monkeypatch.setattr("atd.folder_lock._PATIENCE", 0.3)
    with hold_elsewhere(folder) as other:
        assert "another process is training" in refused(folder, make())
        other.kill()  # even so, its lock goes with it
    folder.claim(make())

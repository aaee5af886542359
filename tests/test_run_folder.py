"""A run folder belongs to one config, and says so before anything is touched."""

from __future__ import annotations

import os
import shutil
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


def begun(folder, config):
    """A claim by a run that comes as far as a training state."""
    folder.claim(config)
    (folder.state / "helper.safetensors").touch()


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
    begun(folder, make())
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
    begun(folder, make())
    folder.finish()
    begun(folder, make(change))
    assert folder.was_finished(make(change))


def test_other_evaluation_options_only_unfinish_the_run(folder, make):
    begun(folder, make())
    assert not folder.was_finished(make())
    folder.finish()
    assert folder.was_finished(make())
    assert not folder.was_finished(make("evaluate.limit=3"))
    assert not folder.was_finished(make("atd.epochs=3"))
    begun(folder, make("evaluate.limit=3"))
    assert not folder.was_finished(make("evaluate.limit=3"))


def test_a_folder_that_does_not_exist_is_not_finished(folder, make):
    assert not folder.was_finished(make())
    assert not folder.path.exists()


def test_a_strangers_folder_is_left_alone(folder, make):
    folder.path.mkdir(parents=True)
    (folder.path / "thesis.tex").write_text("precious")
    assert "not a run folder" in refused(folder, make())
    assert [entry.name for entry in folder.path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken(folder, make):
    folder.path.mkdir(parents=True)
    begun(folder, make())
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
    begun(folder, make())
    assert load(folder.config) == make()


def spoil(file):
    file.write_text("atd: {epochs: many}")


def empty(file):
    file.write_text("")


def delete(file):
    file.unlink()


@pytest.mark.parametrize("damage", [spoil, empty, delete])
def test_a_damaged_config_is_made_again_from_its_copy(folder, make, damage):
    begun(folder, make("run.seed=3"))
    damage(folder.config)
    assert "run.seed" in refused(folder, make())
    begun(folder, make("run.seed=3"))
    assert load(folder.config) == make("run.seed=3")


@pytest.mark.parametrize("damage", [spoil, empty])
def test_a_damaged_config_without_a_copy_is_named(folder, make, damage):
    begun(folder, make())
    (folder.state / "config.yaml").unlink()
    damage(folder.config)
    assert "config.yaml" in refused(folder, make())


@pytest.mark.parametrize("name", ["state", "state/scores", "tensorboard", "detector", "report"])
def test_a_file_where_a_folder_belongs_is_named(folder, make, name):
    begun(folder, make())
    if name == "state":
        shutil.rmtree(folder.state)
    (folder.path / name).write_text("")
    assert f"{folder.path / name}: is no folder; move it away" in refused(folder, make())


def test_litter_of_killed_runs_goes_and_nothing_else(folder, make):
    litter = folder.path / f".config.yaml.{'0' * 16}.atd-tmp"
    litter.mkdir(parents=True)
    begun(folder, make())  # a run that was killed before it had a config is a new one
    below = folder.state / f".atd.safetensors.{'0' * 16}.atd-tmp"
    for mine in (litter, below):
        mine.mkdir()
        (mine / "half").touch()
    (folder.path / "notes.tmp").write_text("precious")
    begun(folder, make())
    assert not litter.exists()
    assert not below.exists()
    assert (folder.path / "notes.tmp").exists()


def test_more_epochs_go_on_where_no_schedule_is_stretched(folder, make):
    begun(folder, make("atd.epochs=2"))
    begun(folder, make("atd.epochs=4"))
    assert load(folder.config).atd.epochs == 4
    assert "atd.epochs" in refused(folder, make("atd.epochs=3"))
    assert "pretrain.epochs" in refused(folder, make("atd.epochs=4", "pretrain.epochs=9"))
    rising = make("atd.epochs=5", "atd.step_schedule=rising")
    assert "atd.step_schedule" in refused(folder, rising)


def test_rising_attacks_keep_their_number_of_epochs(folder, make):
    begun(folder, make("atd.step_schedule=rising"))
    assert "another atd.epochs; " in refused(
        folder, make("atd.step_schedule=rising", "atd.epochs=9")
    )


SET = {"name": "x", "images": 3, "files": "a", "labels": "b", "pixels": "c", "content": "d"}
IMAGES = {"ID training": SET, "OOD test x": {**SET, "content": "e"}}


@pytest.mark.parametrize("key", ["data.id=folder:b", "data.root=b", "data.ood_test=[folder:b]"])
def test_moved_and_renamed_images_are_the_same(folder, make, key):
    begun(folder, make())
    folder.claim_images(IMAGES, make())
    moved = {
        "ID training": {**SET, "name": "b", "files": "other"},
        "OOD test b": {**IMAGES["OOD test x"], "files": "other"},
    }
    begun(folder, make(key))
    assert load(folder.config) == make()  # until the images have been seen
    folder.claim_images(moved, make(key))
    assert load(folder.config) == make(key)
    assert folder.set_names() == {"ID training": "x", "OOD test x": "x"}


def test_other_images_at_another_place_are_refused(folder, make):
    begun(folder, make())
    folder.claim_images(IMAGES, make())
    for title in IMAGES:
        other = {**IMAGES, title: {**IMAGES[title], "content": "f"}}
        begun(folder, make("data.id=folder:b"))
        with pytest.raises(UserError, match="other pixels"):
            folder.claim_images(other, make("data.id=folder:b"))
        assert load(folder.config) == make()


def test_other_images_need_another_folder(folder, make):
    begun(folder, make())
    folder.claim_images(IMAGES, make())
    before = (folder.state / "data.json").read_bytes()
    folder.claim_images(IMAGES, make())
    with pytest.raises(UserError) as error:
        folder.claim_images({**IMAGES, "ID training": {**SET, "images": 2}}, make())
    text = str(error.value)
    assert "had 3 images and has 2 now" in text
    assert str(folder.path) in text
    assert "another run.name" in text
    assert "\n" not in text
    assert (folder.state / "data.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"ID training": 7}'])
def test_a_damaged_note_of_the_images_is_named(folder, make, content):
    begun(folder, make())
    (folder.state / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.json: damaged; delete it"):
        folder.claim_images(IMAGES, make())


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
    begun(folder, make())
    folder.finish()
    monkeypatch.setattr("atd.folder_lock._PATIENCE", 0.3)
    with hold_elsewhere(folder) as other:
        assert "another process is training" in refused(folder, make())
        other.kill()  # even so, its lock goes with it
    begun(folder, make())


def test_a_run_that_made_nothing_does_not_keep_its_folder(folder, make):
    folder.claim(make("data.id=folder:wrong", "backbone.width=8"))
    (folder.state / "data.json").write_text("{}")
    folder.claim(make("data.id=folder:right"))
    assert load(folder.config) == make("data.id=folder:right")
    assert not (folder.state / "data.json").exists()

"""The same run again: it goes on, makes again what is lost, and refuses what does not fit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from atd.config import load
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.run_folder import RunFolder
from atd.training.adversarial_gan import AdversarialGan
from atd.training.robust_pretraining import RobustPretraining

pytestmark = pytest.mark.usefixtures("unrendered")


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def no_training(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(RobustPretraining, "step", never)
    monkeypatch.setattr(AdversarialGan, "step", never)


def test_a_run_repeats_bit_for_bit(start, tiny_run):
    detector, _, _ = start().train()
    assert same(detector, Detector.from_pretrained(tiny_run.folder / "detector"))


def test_other_evaluation_options_evaluate_again_and_train_nothing(
    start, tiny_run, copied, monkeypatch
):
    no_training(monkeypatch)
    results = start("evaluate.limit=10", "evaluate.baselines=[]", folder=copied).execute()
    assert results.id.images == 10
    assert results.baselines == {}
    assert json.loads((copied / "report" / "results.json").read_text())["id"]["images"] == 10
    before, after = (Detector.from_pretrained(f / "detector") for f in (tiny_run.folder, copied))
    assert same(before, after)
    stats = [(folder / "stats.jsonl").read_text() for folder in (tiny_run.folder, copied)]
    assert stats[0] == stats[1]


def test_other_training_options_are_refused_and_touch_nothing(start, copied):
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=r"atd\.epsilon"):
        start("atd.epsilon=0.01", folder=copied).execute()
    assert {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()} == before


def cut(file):
    file.write_bytes(file.read_bytes()[:-5])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(file):
    file.write_bytes(b"")


def is_finished(run):
    return run.folder.is_finished(run.config)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.yaml", empty),
        ("detector", delete),
        ("detector/config.json", cut),
        ("detector/model.safetensors", delete),
        ("detector/model.safetensors", cut),
        ("detector/model.safetensors", flip),
        ("report", delete),
        ("report/results.json", cut),
        ("report/results.json", flip),
        ("report/report.md", delete),
        ("report/report.html", flip),
        ("report/scores.npz", flip),
        ("report/scores.png", cut),
    ],
)
def test_what_a_finished_run_lacks_is_named(tiny_run, copied, name, damage):
    folder = RunFolder(copied)
    assert folder.is_finished(tiny_run.config)
    damage(copied / name)
    assert folder.problem().startswith(f"{copied / name}: ")
    assert not folder.is_finished(tiny_run.config)


def test_what_a_finished_run_lacks_is_made_again_without_training(
    start, tiny_run, copied, monkeypatch
):
    no_training(monkeypatch)
    cut(copied / "detector" / "config.json")
    delete(copied / "report")
    empty(copied / "config.yaml")
    scores = sorted((copied / "state" / "scores").rglob("*.npz"))
    for damage, file in zip((flip, cut, lambda f: f.write_bytes(b"")), scores, strict=False):
        damage(file)
    (copied / "stats.jsonl").write_bytes(b'{"stage": 3}\n[]\n\xff\xfe\n')
    run = start(folder=copied)
    assert not is_finished(run)
    old = json.loads((tiny_run.folder / "report" / "results.json").read_text())
    run.execute()
    assert is_finished(run)
    assert load(copied / "config.yaml") == run.config
    assert json.loads((copied / "report" / "results.json").read_text())["mean"] == old["mean"]
    before, after = (Detector.from_pretrained(f / "detector") for f in (tiny_run.folder, copied))
    assert same(before, after)
    assert after.threshold == before.threshold
    assert (copied / "detector.damaged-1" / "model.safetensors").exists()


def test_a_report_that_the_user_put_in_its_place_stays(tiny_run, copied):
    results = json.loads((copied / "report" / "results.json").read_text())
    results["provenance"]["date"] = "another"
    (copied / "report" / "results.json").write_text(json.dumps(results))
    assert RunFolder(copied).is_finished(tiny_run.config)


def test_a_new_threshold_of_the_users_is_not_taken_for_damage(tiny_run, copied):
    detector = Detector.from_pretrained(copied / "detector")
    detector.set_threshold(0.5, "mine")
    detector.save_pretrained(copied / "detector")
    assert RunFolder(copied).is_finished(tiny_run.config)


@pytest.mark.parametrize("keep", [1, 2])
def test_more_epochs_end_as_if_they_had_been_asked_for_at_once(start, tmp_path, tiny_run, keep):
    weights = f"backbone.weights={tiny_run.folder / 'detector' / 'model.safetensors'}"
    options = [weights, f"run.keep={keep}"]
    whole, *_ = start("atd.epochs=3", *options, folder=tmp_path / "whole").train()
    start("atd.epochs=2", *options).train()
    longer, *_ = start("atd.epochs=3", *options).train()
    assert same(whole, longer)
    lines = [(tmp_path / name / "stats.jsonl").read_text() for name in ("whole", "run")]
    steps = [[json.loads(line)["step"] for line in text.splitlines()] for text in lines]
    assert steps[0] == steps[1]


def test_the_remedy_for_other_options_of_the_discriminator_works(start, copied, tmp_path):
    with pytest.raises(UserError, match="start from its backbone") as error:
        start("atd.epsilon=0.01", folder=copied).train()
    option = next(word for word in str(error.value).split() if word.startswith("backbone.weights="))
    detector, *_ = start("atd.epsilon=0.01", "atd.epochs=1", option).train()
    assert same(detector.backbone, Detector.from_pretrained(copied / "detector").backbone)


def test_images_that_changed_between_two_starts_are_noticed(start, flat, tmp_path, monkeypatch):
    no_training(monkeypatch)
    with pytest.raises(AssertionError):
        start(f"data.id=folder:{flat}").train()
    with pytest.raises(AssertionError):  # the same images: it goes on
        start(f"data.id=folder:{flat}").train()
    (flat / "7.png").unlink()
    with pytest.raises(UserError, match=r"began with: ID .* had \d+ images and has \d+ now"):
        start(f"data.id=folder:{flat}").train()
    with pytest.raises(AssertionError):
        start(f"data.id=folder:{flat}", folder=tmp_path / "new").train()


def test_a_folder_that_was_moved_and_renamed_has_the_same_images(start, flat, tmp_path, capsys):
    run = start(f"data.id=folder:{flat}", "pretrain.objective=trades", "atd.epochs=1")
    first, *_ = run.train()
    moved = tmp_path / "elsewhere" / "other name"
    moved.parent.mkdir()
    flat.rename(moved)
    for file in sorted(moved.iterdir()):
        file.rename(file.with_name(f"photo {file.name}"))
    again, *_ = start(
        f"data.id=folder:{moved}", "pretrain.objective=trades", "atd.epochs=1"
    ).train()
    assert same(first, again)

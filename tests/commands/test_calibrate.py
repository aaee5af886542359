"""The calibrate command: what it stores, what follows, and what a person gets wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from atd import files
from atd.commands import calibrate, score
from atd.config import Config, EvaluateConfig
from atd.detectors.base import Detector
from atd.evaluation.results import read_results
from atd.run_folder import RunFolder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A hundred dark images and as many bright ones, which score differently."""
    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, low, high in (("id", 0, 160), ("ood", 60, 256)):
        (root / name).mkdir()
        for index in range(100):
            pixels = generator.integers(low, high, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:02}.png")
    return root


@pytest.fixture
def run_folder(tiny_run, tmp_path):
    return shutil.copytree(tiny_run.folder, tmp_path / "run")


@pytest.fixture
def folder(tiny_run, tmp_path):
    """A detector without a report beside it, as it is shipped."""
    return shutil.copytree(tiny_run.folder / "detector", tmp_path / "alone" / "detector")


@pytest.fixture
def run(capsys):
    def command(*words):
        calibrate.main([str(word) for word in words])
        return capsys.readouterr().out

    return command


def refuse(*_):
    raise PermissionError(13, "x")


def scores_of(detector, folder):
    return detector.score([str(file) for file in sorted(folder.iterdir())]).numpy()


def contents(folder):
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_accept_sets_threshold_sample_card_and_report(run, run_folder, images, tiny_run):
    folder = run_folder / "detector"
    before = Detector.from_pretrained(folder)
    said = run(folder, "--id", images / "id", "--ood", images / "ood", "--accept", "0.9")
    found = Detector.from_pretrained(folder)
    scores = np.sort(scores_of(found, images / "id"))
    assert found.threshold == scores[90]  # rank 91 = ceil(101 * 0.9) of 100
    assert np.array_equal(np.sort(found.calibration.scores.numpy()), scores)
    assert len(found.calibration.pictures) == 100
    assert "accepts 0.9 of ID images like the 100" in found.config.threshold_note
    record = found.config.calibration
    assert (record["rule"], record["share"], record["images"]) == ("accept", 0.9, 100)
    assert record["former_threshold"] == before.threshold
    assert record["share_interval"] == pytest.approx([0.8362, 0.9580], abs=1e-3)
    assert "91 of 100 ID images are accepted" in said
    caught = int((scores_of(found, images / "ood") > found.threshold).sum())
    assert f"{caught} of 100 OOD images are caught" in said
    for key, value in before.state_dict().items():
        assert torch.equal(value, found.state_dict()[key])

    results = read_results(run_folder / "report" / "results.json")
    with np.load(run_folder / "report" / "scores.npz") as stored:
        accepted = {key: float((stored[key] <= found.threshold).mean()) for key in stored.files}
    limit = results.threshold
    assert limit.value == found.threshold
    assert limit.evaluated == tiny_run.results["threshold"]["value"]
    assert limit.tpr_clean == accepted["id_test/clean"]
    assert limit.tpr_attacked == accepted["id_test/attacked"]
    assert limit.fpr_clean == accepted["lowercase/clean"]
    assert limit.fpr_attacked == accepted["lowercase/attacked"]
    page = (run_folder / "report" / "report.html").read_text()
    assert f"{found.threshold:.4g}" in page
    assert "accepts 0.9 of ID images" in page
    assert "the threshold of then" in page
    card = (folder / "README.md").read_text()
    assert f"Scores above {found.threshold:.6g} are called OOD" in card
    assert found.config.threshold_note in card
    assert "set anew" not in card
    assert RunFolder(run_folder).is_finished(tiny_run.config)


def test_without_a_report_the_card_is_marked_once(run, folder, images):
    former = Detector.from_pretrained(folder).threshold
    for share in ("0.8", "0.9"):
        said = run(folder, "--id", images / "id", "--accept", share, "--keep-images", "0")
        assert "README.md is marked" in said
    card = (folder / "README.md").read_text()
    assert card.count("The threshold was set anew") == 1
    assert "accepts 0.9 of ID images" in card
    assert "no report beside the detector" in card
    assert f"Scores above {former:.6g} are called OOD" in card  # the rest is what it was
    assert card.startswith("---\nlibrary_name")
    assert Detector.from_pretrained(folder).calibration.pictures is None


def test_a_threshold_that_the_attacks_did_not_reach_marks_the_card(run, run_folder, images):
    folder = run_folder / "detector"
    file = run_folder / "report" / "scores.npz"
    with np.load(file) as stored:
        scores = {key: stored[key] - 100.0 for key in stored.files}
    np.savez_compressed(file, **scores)
    before = contents(run_folder / "report")
    assert "the report's attacks stopped" in run(folder, "--id", images / "id")
    assert "set anew" in (folder / "README.md").read_text()
    assert contents(run_folder / "report") == before


def test_calibrating_with_the_training_images_is_told(folder, images, capsys):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["training"]["data"]["id"] = f"folder:{images / 'id'}"
    file.write_text(json.dumps(config))
    for name, told in (("id", True), ("ood", False)):
        calibrate.main([str(folder), "--id", str(images / name)])
        assert ("the detector was trained with data.id" in capsys.readouterr().err) is told


def test_catch_flags_the_share_of_ood_images(run, folder, images):
    run(folder, "--id", images / "id", "--ood", images / "ood", "--catch", "0.9")
    found = Detector.from_pretrained(folder)
    scores = np.sort(scores_of(found, images / "ood"))
    assert (scores > found.threshold).sum() == 91
    assert found.threshold == np.nextafter(scores[9], np.float32(-np.inf))
    assert found.config.calibration["rule"] == "catch"
    low, high = found.config.calibration["threshold_interval"]
    assert low < found.threshold < high
    assert len(found.calibration.scores) == 100  # still those of ID images


@pytest.mark.slow
def test_attacks_that_cannot_be_made_are_not_named(run, folder, images, monkeypatch):
    asked = EvaluateConfig(tier="strong", steps=2, restarts=1)
    config = dataclasses.replace(Config(), evaluate=asked)
    monkeypatch.setattr("atd.deciding.run.recorded_attack", lambda *_: config)
    monkeypatch.setattr("atd.evaluation.tiers._TIERS", {"strong": ("pgd-2x1", "transfer-2x1")})
    run(folder, "--id", images / "id", "--accept", "0.9", "--attacked")
    note = Detector.from_pretrained(folder).config.threshold_note
    assert "PGD-2 x 1" in note
    assert "transfer" not in note


def test_attacked_names_the_attack_and_accepts_less_easily(run, folder, images):
    run(folder, "--id", images / "id", "--accept", "0.9")
    clean = Detector.from_pretrained(folder)
    said = run(folder, "--id", images / "id", "--accept", "0.9", "--attacked")
    found = Detector.from_pretrained(folder)
    assert found.threshold > clean.threshold
    assert "attacked by PGD-3 x 1, L-inf, epsilon 12.75/255" in said
    assert "under attack (PGD-3 x 1" in found.config.threshold_note
    assert torch.equal(found.calibration.scores, clean.calibration.scores)
    assert "clean, " in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--accept", "0.999"), "--accept 0.999: it takes at least 999 images, and there are 100"),
        (("--accept", "1"), "--accept 1: give a share above 0 and below 1"),
        (("--accept", "nan"), "--accept nan: give a share"),
        (("--accept", "0.9", "--catch", "0.9"), "give one"),
        (("--catch", "0.9"), "--ood IMAGES"),
        (("--keep-images=-1",), "--keep-images -1"),
        (("--attacked", "--accept", "0.995"), "at least 199 images"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(fail, folder, images, words, message):
    before = contents(folder.parent)
    assert message in fail(folder, "--id", images / "id", *words)
    assert contents(folder.parent) == before


def test_bad_images_and_detectors_are_one_line(fail, run, folder, images, tmp_path, monkeypatch):
    before = contents(folder.parent)
    (tmp_path / "empty").mkdir()
    assert "no images in this folder" in fail(folder, "--id", tmp_path / "empty")
    assert "name images" in fail(folder)
    assert "--catch 0.95 too" in fail(folder, "--ood", images / "ood")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "nothing", "owner/name"):
        assert "no such folder" in fail(place, "--id", images / "id")
    assert not (tmp_path / "owner").exists()
    same = tmp_path / "same"
    same.mkdir()
    for index in range(30):
        shutil.copy(images / "id" / "00.png", same / f"{index}.png")
    assert "all 30 images score" in fail(folder, "--id", same)
    score_of = Detector.score
    with monkeypatch.context() as patch:
        patch.setattr(
            Detector, "score", lambda self, images: score_of(self, images).fill_(float("nan"))
        )
        assert "its score is nan" in fail(folder, "--id", images / "id")
    with monkeypatch.context() as patch:
        patch.setattr(
            files, "_exchange", lambda *_: (_ for _ in ()).throw(PermissionError(13, "x"))
        )
        assert "cannot be written: x" in fail(folder, "--id", images / "id")
    assert contents(folder.parent) == before


def test_corrupt_images_are_left_out_and_told(folder, images, tmp_path, capsys):
    some = shutil.copytree(images / "id", tmp_path / "some")
    (some / "00.png").write_bytes(b"no image")
    calibrate.main([str(folder), "--id", str(some)])
    said = capsys.readouterr()
    assert "1 left out: 1 unreadable image(s)" in said.err
    assert "00.png" in said.err
    assert "of 99 ID images" in said.out
    for file in some.iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(SystemExit):
        calibrate.main([str(folder), "--id", str(some)])
    assert "no image that can be read" in capsys.readouterr().err


def test_scoring_reads_what_calibrating_stored(run, folder, images, tmp_path, capsys):
    run(folder, "--id", images / "id", "--accept", "0.9")
    page = tmp_path / "page.html"
    words = [folder, images / "ood", "--format", "jsonl", "--p-values", "--explain", "3"]
    score.main([*map(str, words), "--page", str(page), "--every", "50"])
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    detector = Detector.from_pretrained(folder)
    expected = detector.p_values([row["path"] for row in rows])
    torch.testing.assert_close(torch.tensor([row["p_value"] for row in rows]), expected)
    assert all(row["is_ood"] == (row["p_value"] <= 0.1) for row in rows)
    assert said.err.count("drift: ") == 3
    assert "10.0% expected" not in said.err  # nine of a hundred lie above the threshold
    assert "9.0% expected" in said.err
    text = page.read_text()
    worst = sorted(rows, key=lambda row: -row["score"])[:3]
    assert [row["path"] in text for row in worst] == [True] * 3
    assert text.count("<img") == 3
    assert text.count("Most alike: ") == 3
    assert "default-src 'none'" in text


def test_a_detector_without_a_sample_says_how_to_get_one(folder, images, capsys):
    detector = Detector.from_pretrained(folder)
    detector.calibration = None
    detector.save_pretrained(folder)
    with pytest.raises(SystemExit):
        score.main([str(folder), str(images / "id"), "--p-values"])
    said = capsys.readouterr()
    assert "run python -m atd.calibrate" in said.err
    assert said.out == ""
    score.main([str(folder), str(images / "id" / "00.png")])
    assert capsys.readouterr().err == ""


def test_an_image_counts_once_however_often_it_is_named(capsys, folder, images):
    few = [str(images / "id" / f"{index:02}.png") for index in range(10)]
    with pytest.raises(SystemExit) as ended:
        calibrate.main([str(folder), "--id", *few, *few, few[0], "--accept", "0.95"])
    assert ended.value.code == 2  # 21 would be enough, 10 are too few
    said = capsys.readouterr().err
    assert "11 image(s) named before" in said
    assert "error: " in said

"""The scoring command: what a person types, reads and gets wrong."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from score_command import fail, make_detector, run, table

from atd.commands import score
from atd.detectors.base import Detector


def test_csv_gives_the_detectors_scores_in_order(capsys, detector, images, expected):
    rows = list(csv.DictReader(io.StringIO(run(capsys, detector, images[0]))))
    assert [row["path"] for row in rows] == [str(path) for path in sorted(images[0].iterdir())]
    scores = torch.tensor([float(row["score"]) for row in rows])
    torch.testing.assert_close(scores, expected)
    flags = Detector.from_pretrained(detector).predict(images[1]).tolist()
    assert [row["is_ood"] for row in rows] == [str(flag).lower() for flag in flags]
    assert any(flags)
    assert not all(flags)


def test_jsonl_says_the_same(capsys, detector, images, expected):
    lines = run(capsys, detector, images[0], "--format", "jsonl").splitlines()
    rows = [json.loads(line) for line in lines]
    torch.testing.assert_close(torch.tensor([row["score"] for row in rows]), expected)
    assert {type(row["is_ood"]) for row in rows} == {bool}


def test_the_form_follows_the_name_of_the_output(capsys, tmp_path, detector, images):
    for name, words, first in (("a.jsonl", (), "{"), ("b.csv", (), "path"), ("c", (), "path")):
        run(capsys, detector, images[0], "--output", tmp_path / name, *words)
        assert (tmp_path / name).read_text().startswith(first)
    run(capsys, detector, images[0], "--output", tmp_path / "d.jsonl", "--format", "csv")
    assert (tmp_path / "d.jsonl").read_text().startswith("path")


def test_without_threshold_is_ood_is_empty(capsys, tmp_path, images):
    plain = make_detector(tmp_path / "detector", None)
    file = images[0] / "00.png"
    score.main([str(plain), str(file)])
    said = capsys.readouterr()
    assert said.out.splitlines()[1].endswith(",,")
    assert "has no threshold, so is_ood stays empty; give --threshold" in said.err
    assert json.loads(run(capsys, plain, file, "--format", "jsonl"))["is_ood"] is None


def test_files_folders_and_standard_input_keep_their_order(capsys, monkeypatch, detector, images):
    first, second = images[0] / "03.png", images[0] / "01.png"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{second}\n\n{first}\r\n"))
    rows = list(csv.DictReader(io.StringIO(run(capsys, detector, first, "-", images[0]))))
    paths = [row["path"] for row in rows]
    assert paths[:4] == [str(first), str(second), str(first), str(images[0] / "00.png")]
    assert len(paths) == 73


def test_other_sizes_and_modes_are_converted(capsys, tmp_path, detector):
    Image.new("L", (31, 17), 128).save(tmp_path / "grey.jpg")
    Image.new("RGBA", (5, 40)).save(tmp_path / "clear.png")
    assert len(run(capsys, detector, tmp_path).splitlines()) == 3


def test_output_file_is_written_whole_or_not_at_all(capsys, tmp_path, detector, images):
    output = tmp_path / "scores.csv"
    assert run(capsys, detector, images[0], "--output", output) == ""
    before = output.read_text()
    assert before == run(capsys, detector, images[0])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    words = (detector, images[0], broken, "--output", output, "--strict")
    message = fail(capsys, *words)
    assert message.startswith(f"error: {broken}: not readable as an image")
    assert "data.skip_corrupt" not in message
    assert output.read_text() == before
    assert {file.name for file in tmp_path.iterdir()} == {"scores.csv", "broken.png"}
    score.main([str(word) for word in (*words[:-1], "--skip-unreadable")])
    assert "1 of 71 image(s) left out, as they cannot be read" in capsys.readouterr().err
    assert output.read_text() == before


def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path, detector, images):
    assert "no such file" in fail(capsys, detector, tmp_path / "nothing.png")
    assert "no images in this folder" in fail(capsys, detector, tmp_path)
    assert "not a detector folder" in fail(capsys, tmp_path, images[0])
    output = images[0] / "00.png" / "scores.csv"
    assert "cannot be written" in fail(capsys, detector, images[0], "--output", output)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "no images given" in fail(capsys, detector, "-")


@pytest.mark.parametrize("module", ["atd.score", "atd.export"])
def test_help_needs_no_torch(module):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", module, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "DETECTOR" in done.stdout
    assert " torch\n" not in done.stderr


@pytest.mark.parametrize(("threshold", "share"), [("-1e9", 1.0), ("1e9", 0.0), ("0.0", None)])
def test_threshold_replaces_the_stored_one(capsys, detector, images, threshold, share):
    rows = table(run(capsys, detector, images[0], f"--threshold={threshold}"))
    flagged = [row["is_ood"] == "true" for row in rows]
    assert flagged == [float(row["score"]) > float(threshold) for row in rows]
    assert share is None or sum(flagged) / len(flagged) == share


@pytest.mark.parametrize("threshold", ["nan", "inf", "much", "", "1,5"])
def test_a_threshold_is_a_finite_number(capsys, detector, images, threshold):
    assert "--threshold" in fail(capsys, detector, images[0], f"--threshold={threshold}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--watch", "--output", "x.csv"), "--output is written at the end"),
        (("--watch", "--explain", "2"), "--explain is written at the end"),
        (("--explain", "1000"), "--explain 1000: give a number from 1 to 200"),
        (("--every=-1",), "--every -1: give a number"),
        (("--threads", "9999"), "--threads 9999: give a number"),
        (("--p-values",), "run python -m atd.calibrate"),
        (("--explain", "1", "--page", "."), "--page .: is a folder"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(capsys, detector, images, words, message):
    assert message in fail(capsys, detector, images[0], *words)


def test_a_missing_detector_leaves_standard_output_empty(capsys, tmp_path, images):
    with pytest.raises(SystemExit):
        score.main([str(tmp_path / "nothing"), str(images[0])])
    said = capsys.readouterr()
    assert said.out == ""
    assert "no such folder" in said.err


def test_the_detectors_scale_is_used(capsys, tmp_path, images):
    folder = make_detector(tmp_path / "detector", None)
    values = np.random.default_rng(0).integers(0, 4096, (8, 8)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray((values * (255 / 4095)).round().astype(np.uint8)).save(tmp_path / "plain.png")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "scale": "12bit"}))
    rows = table(run(capsys, folder, tmp_path / "deep.png", tmp_path / "plain.png"))
    assert float(rows[0]["score"]) == pytest.approx(float(rows[1]["score"]), abs=1e-6)
    assert Detector.from_pretrained(folder).config.scale == "12bit"

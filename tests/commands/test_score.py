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

from atd.commands import score
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig

SIZE = 8


def make_detector(folder, threshold):
    torch.manual_seed(0)
    backbone = {"width": 4, "features": "last"}
    config = DetectorConfig(
        kind="atd",
        backbone=backbone,
        classes=["a", "b"],
        image_size=SIZE,
        channels=3,
        options={"normalisation": "layer"},
        threshold=threshold,
    )
    build_detector(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Seventy images (more than a batch) of the detector's size, as files and as one tensor."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (70, SIZE, SIZE, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02}.png")
    return folder, torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    folder = make_detector(tmp_path_factory.mktemp("plain") / "detector", None)
    return Detector.from_pretrained(folder).score(images[1])


@pytest.fixture(scope="module")
def detector(expected, tmp_path_factory):
    """A detector whose threshold lies in the middle of the scores."""
    threshold = expected.median().item()
    return make_detector(tmp_path_factory.mktemp("detector") / "detector", threshold)


def run(capsys, *words):
    score.main([str(word) for word in words])
    return capsys.readouterr().out


def fail(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        score.main([str(word) for word in words])
    assert caught.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    return message


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


def test_without_threshold_is_ood_is_empty(capsys, tmp_path, images):
    plain = make_detector(tmp_path / "detector", None)
    file = images[0] / "00.png"
    assert run(capsys, plain, file).splitlines()[1].endswith(",")
    assert json.loads(run(capsys, plain, file, "--format", "jsonl"))["is_ood"] is None


def test_files_folders_and_standard_input_keep_their_order(capsys, monkeypatch, detector, images):
    first, second = images[0] / "03.png", images[0] / "01.png"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{second}\n\n{first}\r\n"))
    rows = list(csv.DictReader(io.StringIO(run(capsys, detector, first, "-", images[0]))))
    paths = [row["path"] for row in rows]
    assert paths[:4] == [str(first), str(second), str(first), str(images[0] / "00.png")]
    assert len(paths) == 73


def test_names_with_commas_and_accents_survive(capsys, tmp_path, detector, images):
    name = tmp_path / 'où, "là".png'
    name.write_bytes((images[0] / "00.png").read_bytes())
    rows = list(csv.DictReader(io.StringIO(run(capsys, detector, name))))
    assert rows[0]["path"] == str(name)
    assert json.loads(run(capsys, detector, name, "--format", "jsonl"))["path"] == str(name)


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
    words = (detector, images[0], broken, "--output", output)
    message = fail(capsys, *words)
    assert message.startswith(f"error: {broken}: not readable as an image")
    assert "data.skip_corrupt" not in message
    assert output.read_text() == before
    assert {file.name for file in tmp_path.iterdir()} == {"scores.csv", "broken.png"}
    score.main([str(word) for word in (*words, "--skip-unreadable")])
    assert "1 unreadable image(s) left out" in capsys.readouterr().err
    assert output.read_text() == before


def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path, detector, images):
    assert "no such file" in fail(capsys, detector, tmp_path / "nothing.png")
    assert "no images in this folder" in fail(capsys, detector, tmp_path)
    assert "not a detector folder" in fail(capsys, tmp_path, images[0])
    output = tmp_path / "missing" / "scores.csv"
    assert "cannot be written" in fail(capsys, detector, images[0], "--output", output)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "no images given" in fail(capsys, detector, "-")


def test_a_second_process_of_torchrun_stays_silent(capsys, monkeypatch, detector, images):
    monkeypatch.setenv("RANK", "1")
    assert run(capsys, detector, images[0]) == ""


def test_a_reader_that_stops_early_is_no_fault(detector, images):
    command = (
        f"{sys.executable} -m atd.score {detector} {images[0]} | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""


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

"""The scoring command on damaged images, hostile names, and outputs that are taken."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from score_command import fail, make_detector, run, table

from atd.commands import score
from atd.detectors.base import Detector


def test_names_with_commas_and_accents_survive(capsys, tmp_path, detector, images):
    name = tmp_path / 'où, "là".png'
    name.write_bytes((images[0] / "00.png").read_bytes())
    rows = list(csv.DictReader(io.StringIO(run(capsys, detector, name))))
    assert rows[0]["path"] == str(name)
    assert json.loads(run(capsys, detector, name, "--format", "jsonl"))["path"] == str(name)


def broken(folder, how):
    file = folder / f"{how}.png"
    match how:
        case "text":
            file.write_text("no image")
        case "pipe":
            os.mkfifo(file)
        case "dangling":
            file.symlink_to(folder / "nowhere")
        case "truncated":
            Image.effect_noise((64, 64), 50).save(file)
            file.write_bytes(file.read_bytes()[:900])
    return file


@pytest.mark.parametrize("how", ["text", "pipe", "dangling", "truncated"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_corrupt_image_is_a_row_and_not_the_end(capsys, tmp_path, detector, images, how, kind):
    file = broken(tmp_path, how)
    first, last = images[0] / "03.png", images[0] / "01.png"
    score.main([str(word) for word in (detector, first, file, last, "--format", kind)])
    said = capsys.readouterr()
    rows = table(said.out) if kind == "csv" else list(map(json.loads, said.out.splitlines()))
    assert [row["path"] for row in rows] == [str(first), str(file), str(last)]
    assert rows[1]["score"] in ("", None)
    assert rows[1]["is_ood"] in ("true", True)
    assert rows[1]["error"].startswith("not readable as an image (")
    assert not rows[0]["error"]
    assert said.err.strip() == "1 of 3 image(s) without a score, called OOD"
    assert f"{how}.png: not readable as an image" in fail(capsys, detector, file, "--strict")
    assert "none of the 1 image(s) can be read" in fail(capsys, detector, file, "--skip-unreadable")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("limit", [0.0, None])
def test_a_score_that_is_not_finite_is_ood_with_an_error(
    capsys, monkeypatch, tmp_path, images, value, limit
):
    folder = make_detector(tmp_path / "detector", limit)
    monkeypatch.setattr(
        Detector, "score", lambda _, pixels: torch.tensor([value] + [0.25] * (len(pixels) - 1))
    )
    lines = run(capsys, folder, images[0], "--format", "jsonl").splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows[0]["score"] is None
    assert rows[0]["is_ood"] is True
    assert "score is" in rows[0]["error"]
    assert (rows[1]["score"], rows[1]["error"]) == (0.25, None)
    assert rows[1]["is_ood"] is (None if limit is None else True)
    assert table(run(capsys, folder, images[0]))[0]["is_ood"] == "true"


NAMES = [b"=1+1.png", b"+x.png", b"-rf.png", b"@here.png", b"\tx.png", b"\rx.png", b"bell\x07.png",
         b"\x1b[31mred.png", b"caf\xe9.png", b"a\nb.png", "\u2028line.png".encode(),
         "\u202egnp.png".encode(), b'"quoted",.png', "\uff1d1.png".encode()]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_any_name_is_a_harmless_row(capsys, monkeypatch, tmp_path, detector, images, kind):
    monkeypatch.chdir(tmp_path)
    pixels = (images[0] / "00.png").read_bytes()
    for name in NAMES:
        with open(name, "wb") as file:
            file.write(pixels)
    listed = b"\0".join(NAMES) + b"\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    score.main([str(detector), "-", "-0", "--format", kind, "--output", "rows"])
    raw = (tmp_path / "rows").read_bytes()
    text = raw.decode("utf-8")
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text)
    if kind == "jsonl":
        paths = [json.loads(line)["path"] for line in text.splitlines()]
        assert paths[4] == "\tx.png"
        assert paths[8] == r"caf\xe9.png"
    else:
        paths = [row["path"] for row in table(text)]
        assert not any(
            path.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d")) for path in paths
        )
        assert all(os.path.samefile(paths[n], NAMES[n]) for n in (0, 1, 2, 3))
        assert "\u202e" not in text
    assert len(paths) == len(NAMES)
    assert not any('"error": "' in line for line in text.splitlines())
    assert raw.count(b"\n") == len(NAMES) + (kind == "csv")


def test_names_on_standard_input_are_taken_as_they_are(
    capsys, monkeypatch, tmp_path, detector, images
):
    odd = tmp_path / "two\nlines .png"
    odd.write_bytes((images[0] / "00.png").read_bytes())
    listed = b"\0".join([os.fsencode(odd), b"", os.fsencode(images[0]), b"/nowhere.png"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    rows = table(run(capsys, detector, "-", "--null"))
    assert len(rows) == 72
    assert not rows[0]["error"]
    assert "No such file" in rows[-1]["error"]


@pytest.mark.parametrize("place", ["/dev/null", "pipe", "planted link", "own tmp file"])
def test_output_harms_nothing_that_is_there(capsys, tmp_path, detector, images, place):
    output, other = tmp_path / "out.csv", tmp_path / "other"
    other.write_text("mine")
    match place:
        case "/dev/null":
            output.symlink_to("/dev/null")
            target = Path("/dev/null")
        case "pipe":
            os.mkfifo(output)
            reader = subprocess.Popen(["cat", output], stdout=subprocess.PIPE)
        case "planted link":
            (tmp_path / "out.csv.tmp").symlink_to(other)
        case "own tmp file":
            (tmp_path / "out.csv.tmp").write_text("mine")
    run(capsys, detector, images[0], "--output", target if place == "/dev/null" else output)
    assert other.read_text() == "mine"
    match place:
        case "/dev/null":
            assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        case "pipe":
            assert stat.S_ISFIFO(output.stat().st_mode)
            assert len(reader.communicate(timeout=20)[0].splitlines()) == 71
        case _:
            assert (tmp_path / "out.csv.tmp").read_text() == "mine"
            assert len(output.read_text().splitlines()) == 71


def test_what_is_left_out_is_told(capsys, tmp_path, detector, images):
    for name in ("a.txt", "b.TXT", "scan", ".hidden", "c.png.part"):
        (tmp_path / name).touch()
    (tmp_path / "a.png").write_bytes((images[0] / "00.png").read_bytes())
    score.main([str(detector), str(tmp_path)])
    said = capsys.readouterr()
    assert len(table(said.out)) == 1
    assert said.err.startswith("5 left out: ")
    for part in ("2 .txt files", "1 files without extension", "1 hidden files", "1 .part files"):
        assert part in said.err
    (tmp_path / "a.png").unlink()
    assert "no images in this folder; left out: " in fail(capsys, detector, tmp_path)


def test_damaged_tags_and_dark_ranges_are_one_line_each(capfd, tmp_path, detector):
    for index in range(4):
        values = np.full((8, 8), 1000 + index, np.uint16)
        Image.fromarray(values).save(tmp_path / f"{index}.png")
    score.main([str(detector), str(tmp_path)])
    (line,) = capfd.readouterr().err.splitlines()
    assert "4 image(s) of 16 bits use only" in line

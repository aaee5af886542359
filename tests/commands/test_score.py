"""The scoring command: what a person types, reads and gets wrong."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
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

from atd.commands import score
from atd.data.remarks import Remarks
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.streaming import score_files

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
    assert run(capsys, plain, file).splitlines()[1].endswith(",,")
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


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


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


def test_names_are_read_as_they_come(monkeypatch, detector, images):
    """A list without an end is scored all the same, in order."""
    served = itertools.count()
    names = (str(images[0] / f"{next(served) % 70:02}.png") for _ in itertools.repeat(None))
    rows = score_files(Detector.from_pretrained(detector), names, Remarks())
    first = list(itertools.islice(rows, 1000))
    assert next(served) <= 1000 + 4 * 256
    assert [row.path for row in first[:70]] == [row.path for row in first[70:140]]


def together(processes, folder, names, stop):
    """What two processes give, run by each of them."""
    from atd.scoring.together import score_together

    detector = Detector.from_pretrained(folder)
    rows = score_together(
        processes,
        names if processes.is_main else [],
        lambda some, remarks: score_files(detector, some, remarks),
        Remarks(),
    )
    with contextlib.closing(rows):
        return [(row.path, row.score, row.error) for row in itertools.islice(rows, stop)]


@pytest.mark.parametrize("stop", [None, 3])
def test_processes_share_the_work_and_keep_the_order(pool, tmp_path, detector, images, stop):
    names = [str(images[0] / f"{index % 70:02}.png") for index in range(2100)]
    names[5] = names[1500] = str(tmp_path / "missing.png")
    first, second = pool(together, str(detector), names, stop)
    alone = list(score_files(Detector.from_pretrained(detector), names[:1100], Remarks()))
    assert second == []
    assert [path for path, _, _ in first] == names[:stop]
    for row, (_, value, error) in zip(alone, first, strict=False):
        assert (value, error) == (pytest.approx(row.score, abs=1e-6), row.error)


@pytest.mark.dist
def test_under_torchrun_one_process_writes(tmp_path, detector, images):
    output = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "atd.score", str(detector), str(images[0]), "--output", str(output)]
    done = subprocess.run([*command, "--device=cpu"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in table(output.read_text())] == [
        str(path) for path in sorted(images[0].iterdir())
    ]

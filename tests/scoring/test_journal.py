"""Scoring goes on after a kill, to the same bytes; nothing of anybody else's is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atd
from atd.commands import score
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.streaming import FileScore
from atd.errors import UserError
from atd.scoring.journal import _row, keeping

COUNT = 700


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 4, "features": "last"},
        classes=["a", "b"],
        image_size=8,
        channels=1,
        options={"normalisation": "layer"},
        threshold=0.0,
    )
    folder = tmp_path_factory.mktemp("detector") / "detector"
    build_detector(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """As many names as make two whole blocks and some, of a few images, one of them corrupt."""
    folder = tmp_path_factory.mktemp("images")
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "19.png").write_bytes(b"no image")
    return [str(folder / f"{index % 20}.png") for index in range(COUNT)]


def command(detector, names, output, *words):
    listed = output.with_name("names")
    listed.write_text("\n".join(names))
    with listed.open() as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stream)
        score.main([str(detector), "-", "--output", str(output), *words])
    return output.read_bytes()


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(detector, names, tmp_path, capsys, monkeypatch):
    whole = command(detector, names, tmp_path / "whole.csv")
    output, partial = tmp_path / "rows.csv", tmp_path / "rows.csv.partial"
    running = subprocess.Popen(
        [sys.executable, "-m", "atd.score", str(detector), "-", "--output", str(output)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(atd.__file__).parents[1])},
    )
    # Names without an end: what comes after the second block is waited for when it is killed.
    running.stdin.write("\n".join(names * 3).encode())
    running.stdin.flush()
    end = time.monotonic() + 120
    while not partial.exists() or partial.read_bytes().count(b"\n") < 1 + 512:
        assert running.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not output.exists()
    content = partial.read_bytes()
    partial.write_bytes(content[: content.index(b"\n", len(content) // 2) + 7])  # a torn line
    kept = (partial.read_bytes().count(b"\n") - 1) // 256 * 256
    scored = []
    batch = Detector.score
    monkeypatch.setattr(
        Detector, "score", lambda self, images: scored.append(len(images)) or batch(self, images)
    )
    assert command(detector, names, output) == whole
    assert sum(scored) == sum(name[-6:] != "19.png" for name in names[kept:])
    assert f"{kept} image(s) were scored before; going on" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["names", "rows.csv", "whole.csv"]


@pytest.mark.dist
def test_two_processes_go_on_after_a_kill_to_the_same_bytes(detector, names, tmp_path):
    names = (names * 4)[:2500]  # more than the 2,048 that two processes share at a time
    whole = command(detector, names, tmp_path / "whole.csv")
    output, partial = tmp_path / "rows.csv", tmp_path / "rows.csv.partial"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["-m", "atd.score", str(detector), "-", "--output", str(output), "--device=cpu"]

    def start(stdin):
        paths = {"PYTHONPATH": str(Path(atd.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, *launch, *words],
            stdin=stdin,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **paths},
        )

    running = start(subprocess.PIPE)
    try:
        # Without an end: when the first share is written, the second one is still waited for.
        running.stdin.write("\n".join(names) + "\n")
        running.stdin.flush()
        end = time.monotonic() + 120
        while not partial.exists() or partial.read_bytes().count(b"\n") < 1 + 2048:
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        workers = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        for process in (running.pid, *map(int, workers)):
            os.kill(process, signal.SIGKILL)
        running.communicate()
    assert len(workers) == 2
    assert not output.exists()
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"".join(lines[:900]) + lines[900][:7])  # a torn line within a share
    (tmp_path / "names").write_text("\n".join(names))
    with (tmp_path / "names").open() as stdin:
        _, told = start(stdin).communicate(timeout=120)
    assert "768 image(s) were scored before; going on" in told
    assert output.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["names", "rows.csv", "whole.csv"]


def run(file, names, made, key="key", stop=None):
    """Rows as they come, of which `made` counts those that are new."""

    def fresh(some):
        for name in some:
            made.append(name)
            if len(made) == stop:
                raise KeyboardInterrupt
            yield FileScore(name, len(name) / 7, "odd" if "\udce9" in name else "")

    with keeping(file, key) as journal:
        return list(journal.rows(iter(names), fresh))


@pytest.mark.parametrize(
    ("change", "kept"),
    [("none", 512), ("key", 0), ("first name", 0), ("name 300", 256), ("damage", 256)],
)
def test_rows_are_kept_as_long_as_they_are_the_same_ones(tmp_path, change, kept):
    names, file = [f"{index}\udce9.png" for index in range(600)], tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        run(file, names, [], stop=590)
    partial = tmp_path / "out.csv.partial"
    match change:
        case "first name":
            names[0] = "x"
        case "name 300":
            names[300] = "x"
        case "damage":
            lines = partial.read_bytes().split(b"\n")
            partial.write_bytes(b"\n".join([*lines[:300], b'["a", "b", 1, 2]', *lines[301:]]))
    made: list[str] = []
    found = run(file, names, made, key="other" if change == "key" else "key")
    assert made == names[kept:]
    assert found == run(tmp_path / "fresh.csv", names, [])
    assert not partial.exists()


def test_what_is_not_ours_stays(tmp_path):
    output, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial"
    partial.write_text("mine\n")
    with pytest.raises(UserError, match=r"out\.csv\.partial: exists and holds no unfinished"):
        run(output, ["a"], [])
    assert partial.read_text() == "mine\n"
    partial.unlink()
    partial.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be written"):
        run(output, ["a"], [])
    assert not (tmp_path / "elsewhere").exists()
    partial.unlink()
    os.mkfifo(partial)
    with pytest.raises(UserError, match="not a regular file"):
        run(output, ["a"], [])
    partial.unlink()
    with keeping(output, "key"), pytest.raises(UserError, match="another command is writing it"):
        run(output, ["a"], [])


def test_a_failure_before_a_whole_block_leaves_nothing(detector, names, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command(detector, names, tmp_path / "rows.csv", "--strict")
    assert "19.png: not readable" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["names"]


def test_a_kept_score_that_is_no_number_is_scored_anew(detector, names, tmp_path):
    output = tmp_path / "rows.csv"
    for line in (b'["a.png", NaN, "", true]', b'["a.png", Infinity, "", true]'):
        with pytest.raises(ValueError, match="no row"):
            _row(line)
    assert _row(b'["a.png", 0.5, "", true]').score == 0.5
    assert b"nan" not in command(detector, names[:5], output)

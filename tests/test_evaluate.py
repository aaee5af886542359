"""The evaluation command on the tiny run's detector."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from atd import evaluate


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*words):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
        evaluate.main()
        return capsys.readouterr().out

    return command


@pytest.fixture
def fail(run, capsys):
    def command(*words):
        with pytest.raises(SystemExit) as caught:
            run(*words)
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return command


def test_help_is_quick_and_shows_examples():
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "atd.evaluate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 2
    assert "DETECTOR" in done.stdout
    assert " torch\n" not in done.stderr


def test_a_report_is_written_where_asked(run, tiny_run, tmp_path):
    detector, output = tiny_run.folder / "detector", tmp_path / "out"
    before = (tiny_run.folder / "report" / "results.json").read_bytes()
    out = run(detector, "--output", output)
    results = json.loads((output / "results.json").read_text())
    for key in ("id", "attack", "mean_over"):
        assert results[key] == tiny_run.results[key], key
    assert results["threshold"] == pytest.approx(tiny_run.results["threshold"], abs=1e-5)
    for condition, metrics in tiny_run.results["mean"].items():
        assert results["mean"][condition] == pytest.approx(metrics, abs=0.01)
    assert (output / "report.md").is_file()
    assert "lowercase" in out
    assert str(output / "report.md") in out
    assert (tiny_run.folder / "report" / "results.json").read_bytes() == before


def test_options_override_the_stored_ones(run, tiny_run, tmp_path):
    options = ["evaluate.limit=8", "evaluate.epsilon=0", "data.ood_test=[mine=bundled:lowercase]"]
    run(tiny_run.folder / "detector", *options, "--output", tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["id"]["images"] == 8
    assert results["datasets"].keys() == {"mine"}
    mine = results["datasets"]["mine"]
    assert mine["clean"]["auroc"] == pytest.approx(mine["both"]["auroc"])


@pytest.mark.parametrize("folder", ["report", "nowhere"])
def test_what_is_no_detector_is_refused(fail, tiny_run, folder):
    assert "not a detector folder" in fail(tiny_run.folder / folder)


def test_options_that_do_not_fit_are_refused(fail, tiny_run):
    detector = tiny_run.folder / "detector"
    assert "takes 8" in fail(detector, "data.image_size=16")
    assert "did you mean evaluate.tier?" in fail(detector, "evaluate.teir=paper")

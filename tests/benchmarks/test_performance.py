"""The document is made of measured numbers only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from atd.errors import UserError
from benchmarks.performance import fill, read

ROOT = Path(__file__).parents[2]


def row(name, median):
    return {
        "name": name,
        "options": [],
        "seconds": {"median": 1 / median, "low": 0.1, "high": 9.0, "count": 3},
        "times_faster": {"median": median, "low": 1.0, "high": 5.0, "count": 3},
    }


@pytest.fixture
def found():
    result = {
        "benchmark": "train_step",
        "rows": [row("published style", 1.0), row("ours, bfloat16", 3.21)],
        "setting": {
            "device": "cpu", "batch": 64, "width": 64, "quick": False, "overrides": []
        },
        "provenance": {"hardware": "CPU", "versions": {}, "commit": "abc", "date": "today"},
    }  # fmt: skip
    return {("train_step", "cpu"): result}


def test_numbers_come_from_the_results(found):
    text = fill("{{times train_step/cpu/ours, bfloat16}} {{times train_step/cpu/x}}", found)
    assert text == "3.2 (not measured)"


def test_table_has_every_row_and_tells_what_is_missing(found):
    text = fill("{{table train_step}}", found)
    assert "| ours, bfloat16 |" in text
    assert "commit abc" in text
    assert "**CUDA**: not measured" in text


def test_unknown_field_is_refused(found):
    with pytest.raises(UserError, match="number"):
        fill("{{number 3}}", found)


def test_no_results_are_refused(tmp_path):
    with pytest.raises(UserError, match="no results"):
        read(tmp_path)


def test_template_has_no_number_of_its_own_in_a_table():
    template = (ROOT / "benchmarks" / "performance.template.md").read_text(encoding="utf-8")
    assert "{{table train_step}}" in template
    assert not [line for line in template.splitlines() if line.startswith("|")]


def test_the_document_is_the_one_made_of_the_results():
    template = (ROOT / "benchmarks" / "performance.template.md").read_text(encoding="utf-8")
    made = fill(template, read(ROOT / "docs" / "performance"))
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == made


def script(*arguments):
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments],
        env={**os.environ, "DEVICE": "cpu", "QUICK": "1", "PYTHON": "false"},
        capture_output=True,
        text=True,
    )


def test_gpu_script_skips_what_is_done_and_tells_what_failed(tmp_path):
    (tmp_path / "attack.cpu.json").write_text("{}", encoding="utf-8")
    assert script(str(tmp_path), "attack").returncode == 0
    failed = script(str(tmp_path), "attack", "pretrain")
    assert failed.returncode == 1
    assert "attack: done before" in failed.stdout
    assert "pretrain: ended with 1" in failed.stdout
    assert script(str(tmp_path), "nothing").returncode == 2

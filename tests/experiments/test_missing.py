"""What is finished stays, what was refused is tried again."""

from __future__ import annotations

import json

import pytest

from atd.config import Config
from atd.errors import UserError
from atd.experiments.missing import finished_runs, run_missing


@pytest.fixture
def run(tmp_path):
    """Measures rows `a` and `b`; gives those that were measured, and the file."""

    def run(found, seeds=(0, 1)):
        measured = []

        def configure(row, seed):
            measured.append((row, seed))
            return Config()

        run_missing(
            tmp_path / "page.md",
            ["a", "b"],
            seeds,
            configure=configure,
            measure=lambda row, config: found(row),
            page=lambda runs: ", ".join(runs),
        )
        return measured, json.loads((tmp_path / "page.json").read_text())

    return run


def test_a_refused_row_is_shown_and_tried_again(run, tmp_path):
    measured, found = run(lambda row: {"refused": "no images"} if row == "b" else {"value": 1})
    assert measured == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert found["b/0"]["refused"] == "no images"
    assert (tmp_path / "page.md").read_text().strip() == "a/0, b/0, a/1, b/1"
    measured, found = run(lambda row: {"value": 2})
    assert measured == [("b", 0), ("b", 1)]
    assert (found["a/0"]["value"], found["b/0"]["value"]) == (1, 2)
    assert "refused" not in found["b/0"]
    assert run(lambda row: {"value": 3})[0] == []


def test_more_seeds_add_rows(run):
    run(lambda row: {"value": 1}, seeds=(0,))
    assert run(lambda row: {"value": 2})[0] == [("a", 1), ("b", 1)]


@pytest.mark.parametrize("text", ["{", "[]", '{"a/0": 1}'])
def test_a_damaged_file_is_one_line_and_stays(tmp_path, text):
    file = tmp_path / "page.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"page\.json: no runs of an experiment; move it away"):
        finished_runs(file)
    assert file.read_text() == text


def test_no_file_holds_no_runs(tmp_path):
    assert finished_runs(tmp_path / "page.json") == {}

"""What is finished stays, what was refused is tried again."""

from __future__ import annotations

import json

import pytest

from atd.config import Config
from atd.errors import UserError
from atd.experiments.missing import finished_runs, run_missing
from atd.experiments.setting import Setting

DIGITS = Setting("configs/digits.yaml", "smoke")


@pytest.fixture
def run(tmp_path):
    """Measures rows `a` and `b`; gives those that were measured, and the file."""

    def run(found, seeds=(0, 1), setting=DIGITS, rows=("a", "b")):
        measured = []

        def configure(row, seed):
            measured.append((row, seed))
            return Config()

        run_missing(
            tmp_path / "page.md",
            rows,
            seeds,
            setting=setting,
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


def test_rows_of_another_config_of_that_name_are_refused(run, tmp_path):
    file, rows = tmp_path / "mine.yaml", ("mine-smoke/a",)

    def setting(text, scale="smoke"):
        file.write_text(text)
        return Setting(str(file), scale)

    run(lambda row: {"value": 1}, (0,), setting("atd: {epsilon: 0.1}\nrun: {threads: 1}"), rows)
    same = setting("# edited\nrun: {threads: 2, name: other}\natd: {epsilon: 0.1}")
    assert run(lambda row: {"value": 2}, (0,), same, rows)[0] == []
    edited = setting("atd: {epsilon: 0.2}")
    wanted = r"page.json: its rows of mine-smoke are of .*mine\.yaml with other options; choose"
    for others in (rows, ("mine-smoke/b",)):  # a table is of one config
        with pytest.raises(UserError, match=wanted):
            run(lambda row: {"value": 3}, (0, 1), edited, others)
    elsewhere = Setting(str(tmp_path / "folder" / "mine.yaml"), "smoke")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.yaml").write_text("atd: {epsilon: 0.2}")
    with pytest.raises(UserError, match=r"mine-smoke are of .*mine\.yaml with other options"):
        run(lambda row: {"value": 3}, (0,), elsewhere, rows)


def test_rows_that_do_not_tell_their_config_are_taken_as_they_are(run, tmp_path):
    (tmp_path / "page.json").write_text('{"digits-smoke/a/0": {"value": 1}}')
    measured, found = run(lambda row: {"value": 2}, (0,), rows=("digits-smoke/a",))
    assert (measured, found["digits-smoke/a/0"]["value"]) == ([], 1)


def test_a_refused_row_is_tried_again_with_an_edited_config(run, tmp_path):
    file, rows = tmp_path / "mine.yaml", ("mine-smoke/a",)
    file.write_text("atd: {epsilon: 0.1}")
    run(lambda row: {"refused": "no"}, (0,), Setting(str(file), "smoke"), rows)
    file.write_text("atd: {epsilon: 0.2}")
    measured, _ = run(lambda row: {"value": 2}, (0,), Setting(str(file), "smoke"), rows)
    assert measured == [("mine-smoke/a", 0)]


@pytest.mark.parametrize("text", ["{", "[]", '{"a/0": 1}'])
def test_a_damaged_file_is_one_line_and_stays(tmp_path, text):
    file = tmp_path / "page.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"page\.json: no runs of an experiment; move it away"):
        finished_runs(file)
    assert file.read_text() == text


def test_no_file_holds_no_runs(tmp_path):
    assert finished_runs(tmp_path / "page.json") == {}

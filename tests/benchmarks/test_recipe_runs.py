"""Recipes: what is finished stays, and every run names the code that it was measured on."""

from __future__ import annotations

import json

import pytest

from atd.experiments import missing
from benchmarks.recipe_runs import footer, of_recipe, parser, run_missing, spread

RECIPES = {"plain": [], "one step": ["atd.steps=1"]}
HARDWARE = missing.provenance(None, seed=0, seconds=0.0)["hardware"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs both recipes with the code at a commit; gives the configs measured and the file."""

    def run(code, *options, during=lambda: None):
        monkeypatch.setattr(missing, "commit", lambda: code)
        chosen = parser("Tries.", RECIPES, name="tries", flag="--tries")
        arguments = chosen.parse_intermixed_args(
            [*options, "--output", str(tmp_path / "page.md"), "--seeds", "5"]
        )
        measured = []

        def measure(recipe, config):
            during()
            measured.append((recipe, config.run.seed, config.atd.steps, config.atd.epochs))
            return {"value": config.atd.steps}

        def page(runs):
            return footer(arguments, runs)

        run_missing(arguments, RECIPES, measure, page, common=("atd.steps=7",))
        return measured, json.loads((tmp_path / "page.json").read_text())

    return run


def test_recipes_win_over_common_options(run):
    measured, found = run("abc", "atd.epochs=3")
    assert measured == [("plain", 5, 7, 3), ("one step", 5, 1, 3)]
    assert {key: record["value"] for key, record in found.items()} == {
        "plain/5": 7,
        "one step/5": 1,
    }


def test_a_finished_run_stays_and_keeps_its_commit(run, tmp_path):
    run("first", "--tries", "plain")
    measured, found = run("second")
    assert [recipe for recipe, *_ in measured] == ["one step"]
    commits = {key: record["provenance"]["commit"] for key, record in found.items()}
    assert commits == {"plain/5": "first", "one step/5": "second"}
    page = (tmp_path / "page.md").read_text()
    assert "python -m benchmarks.tries --config configs/digits.yaml" in page
    assert f"* 1 run: commit first, {HARDWARE}, 2" in page
    assert f"* 1 run: commit second, {HARDWARE}, 2" in page


def test_a_commit_during_a_run_is_not_that_of_its_code(run, monkeypatch):
    _, found = run("before", during=lambda: monkeypatch.setattr(missing, "commit", lambda: "x"))
    assert {record["provenance"]["commit"] for record in found.values()} == {"before"}


def test_runs_that_another_process_finished_meanwhile_are_kept(run, tmp_path):
    other = {"plain/9": {"value": 1}}
    _, found = run("abc", during=lambda: (tmp_path / "page.json").write_text(json.dumps(other)))
    assert {"plain/9", "one step/5"} <= set(found)
    assert "* 1 run: code not recorded\n" in (tmp_path / "page.md").read_text()


def test_runs_of_a_recipe_and_their_spread():
    runs = {"a/b/0": {"value": 1.0}, "a/b/1": {"value": 2.0}, "b/0": {"value": 5.0}}
    assert of_recipe(runs, "a/b") == {0: {"value": 1.0}, 1: {"value": 2.0}}
    assert (spread([1.0]), spread([1.0, 2.0], 1)) == ("1.000", "1.5 ± 0.7")

"""Every document of an experiment is what its command makes of the runs beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import arms, attack_budget, pretrain_recipes, publish

ROOT = Path(__file__).parents[2]


def command(monkeypatch, main, *words):
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
    main()


@pytest.mark.parametrize(
    ("name", "main", "choice"),
    [
        ("attack_budget", attack_budget.main, ("--budgets", "3 steps, carried")),
        ("pretrain_recipes", pretrain_recipes.main, ("--recipes", "PGD-10")),
    ],
)
def test_the_published_page_is_made_of_the_published_runs(
    monkeypatch, tmp_path, name, main, choice
):
    published = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    runs = (ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / f"{name}.json").write_text(runs, encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    # Finished runs are not made again, so this only writes the page.
    command(monkeypatch, main, *choice, "--seeds", 0, "--output", f"docs/{name}.md")
    assert Path(f"docs/{name}.md").read_text(encoding="utf-8") == published


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "choice", "row"),
    [
        (arms.main, ("--arms", "one attack step"), "| one attack step |"),
        (attack_budget.main, ("--budgets", "3 steps, carried"), "| 3 steps, carried ("),
        (pretrain_recipes.main, ("--recipes", "PGD-1"), "| PGD-1 |"),
    ],
)
def test_an_experiment_runs_and_fills_its_row(monkeypatch, tmp_path, tiny_yaml, main, choice, row):
    page, work = tmp_path / "page.md", tmp_path / "work"
    small = ["evaluate.tier=smoke", "evaluate.steps=2", "evaluate.limit=10", "atd.epochs=1"]
    words = [*choice, "--seeds", 0, "--config", tiny_yaml, "--work", work, "--output", page]
    command(monkeypatch, main, *words, *small)
    (line,) = [line for line in page.read_text(encoding="utf-8").splitlines() if row in line]
    assert line.count("|") >= 7


def test_a_finished_run_is_published(monkeypatch, tmp_path, tiny_run):
    command(monkeypatch, publish.main, tiny_run.folder, tmp_path / "tiny.md")
    text = (tmp_path / "tiny.md").read_text(encoding="utf-8")
    both = 100 * tiny_run.results["mean"]["both"]["auroc"]
    assert f"{both:.1f}" in text
    assert "Minutes: helper" in text
    assert (tmp_path / "tiny.json").is_file()

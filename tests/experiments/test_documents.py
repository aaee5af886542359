"""Every document of tables is what its command makes of the runs beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atd.experiments import attack_target, findings, own_images, tables, transferred
from atd.experiments.missing import finished_runs

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "findings": findings.page,
    "own_images": lambda runs, output: own_images.page(runs),
    "table1": lambda runs, output: tables.page(runs, tables.TABLE1),
    "table2": lambda runs, output: transferred.page(runs),
    "table3": lambda runs, output: tables.page(runs, tables.TABLE3),
    "table4": lambda runs, output: attack_target.page(runs),
    "table5": lambda runs, output: tables.page(runs, tables.TABLE5),
}


@pytest.mark.parametrize("what", PAGES)
def test_a_published_page_is_made_of_the_runs_beside_it(what, tmp_path):
    page, runs = DOCS / f"{what}.md", DOCS / f"{what}.json"
    assert page.exists() == runs.exists(), "a page without its runs, or runs without their page"
    if runs.exists():
        shutil.copy(runs, tmp_path)
        made = PAGES[what](finished_runs(tmp_path / runs.name), tmp_path / page.name)
        assert made.rstrip() == page.read_text(encoding="utf-8").rstrip()

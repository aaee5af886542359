"""The table of kinds."""

from __future__ import annotations

from pathlib import Path

from atd.detectors.kinds import KINDS, kind_class
from atd.reporting.kinds import kinds_table, paper_link


def test_every_kind_has_a_row_that_says_what_it_says_of_itself():
    head, _, *rows = kinds_table().splitlines()
    assert len(rows) == len(KINDS)
    for kind, row in zip(KINDS, rows, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == head.count("|") - 1
        info = kind_class(kind).info
        assert cells[:2] == [f"`{kind}`", info.title]
        assert cells[-2] == info.gradient
        assert (cells[-1] == "yes") == (info.exportable is True)
        assert ("labels" in cells[4]) == ("labels" in info.needs)


def test_papers_are_links():
    text = "Sun et al., 2022, arXiv:2204.06507"
    assert paper_link(text) == (
        "Sun et al., 2022, [arXiv:2204.06507](https://arxiv.org/abs/2204.06507)"
    )


def test_the_page_holds_the_table():
    page = Path(__file__).parents[2] / "docs" / "kinds.md"
    assert kinds_table() in page.read_text(encoding="utf-8")

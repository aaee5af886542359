from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from atd.reporting.document import (
    Banner,
    Command,
    KeyNumbers,
    Paragraph,
    Picture,
    Section,
    Table,
    code,
    emphasis,
    outcome,
    quiet,
    strong,
)
from atd.reporting.markdown import render

TRICKY = st.text("|*_`<\\[](! a\n", max_size=12)


def body(*blocks) -> str:
    return render([Section("Title", blocks)]).removeprefix("# Title\n\n")


def test_titles_styles_and_blocks() -> None:
    first = Section(
        "Page", [Paragraph(("plain ", strong("s"), emphasis("e"), code("c"), quiet("q")))]
    )
    second = Section("Part", [Picture("a.png", "what"), Command("run it")])
    assert render([first, second]) == (
        "# Page\n\nplain **s***e*`c`(q)\n\n## Part\n\n![what](a.png)\n\n    run it"
    )


def test_a_bad_banner_warns_and_a_good_one_does_not() -> None:
    assert body(Banner("all is well", good=True)) == "> ✓ all is well"
    assert body(Banner("beware", good=False)).startswith("> ⚠ **Warning.** beware")


def test_key_numbers_keep_number_label_and_meaning() -> None:
    assert body(KeyNumbers([("both", "9 %", "all attacked")])) == "- **9 %** both: all attacked"


def test_table_aligns_columns() -> None:
    table = Table(["a", "b"], [[outcome(True), "1"], [outcome(False), "2"]])
    assert body(table) == "| a | b |\n| --- | ---: |\n| passed | 1 |\n| **FAILED** | 2 |"


@given(TRICKY, TRICKY)
def test_tables_are_rectangular_whatever_the_names(name: str, other: str) -> None:
    lines = body(Table([name, "b"], [[strong(other), name], [name, quiet(other)]])).split("\n")
    assert len(lines) == 4
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3, line


def test_names_are_not_taken_for_markup() -> None:
    assert body(Paragraph("a_b *c* <d> [e](f) _g_")) == r"a_b \*c\* \<d> [e\](f) \_g\_"

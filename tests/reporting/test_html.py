from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
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
    outcome,
    strong,
)
from atd.reporting.html import render
from atd.reporting.page import page
from atd.reporting.report import write_report

NOWHERE = Path("there/are/no/pictures")
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """What a browser would see: texts, attributes by tag, and whether all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


@pytest.fixture(scope="module")
def report(evaluation, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write_report(evaluation, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_report_is_well_formed_and_asks_nobody_for_anything(report: str) -> None:
    reader = Reader(report)
    assert reader.open == []
    for tag, attributes in reader.attributes:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for key in ("src", "href", "action", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    assert "url(" not in report
    assert "@import" not in report
    assert re.search(r"Content-Security-Policy.*\n?.*default-src 'none'", report)


def test_report_holds_all_pictures_with_their_sizes(report: str, evaluation) -> None:
    images = Reader(report).every("img")
    blocks = [block for section in page(evaluation.results) for block in section.blocks]
    assert [item["alt"] for item in images] == [
        block.alt for block in blocks if isinstance(block, Picture)
    ]
    for item in images:
        assert base64.b64decode(item["src"].split(",")[1]).startswith(b"\x89PNG")
        assert 200 < int(item["width"]) < 1100
        assert 100 < int(item["height"]) < 2000


def test_report_says_what_the_page_says(report: str, evaluation) -> None:
    texts = set(Reader(report).texts)
    for section in page(evaluation.results):
        assert section.title in texts
    for name, check in evaluation.results.checks.items():
        assert {name, check.detail} <= texts


def test_contents_lead_to_every_section_but_the_first() -> None:
    reader = Reader(render([Section(title, []) for title in ("Page", "A & B", "C")], NOWHERE))
    targets = [item["href"] for item in reader.every("a")]
    anchors = ["#" + item["id"] for item in reader.every("section")]
    assert targets == anchors[1:]
    assert len(set(anchors)) == 3


def test_page_is_for_the_dark_for_telephones_and_for_paper(report: str) -> None:
    for need in (
        "prefers-color-scheme: dark",
        "@media print",
        'name="viewport"',
        "max-width: 40rem",
    ):
        assert need in report


def test_verdict_is_told_in_words_and_signs_not_in_colour_alone() -> None:
    good = Reader(render([Section("Page", [Banner("fine", good=True)])], NOWHERE)).texts
    bad = Reader(render([Section("Page", [Banner("bad", good=False)])], NOWHERE)).texts
    assert {"✓", "fine"} <= set(good)
    assert {"⚠", "Warning.", " bad"} <= set(bad)
    cells = [[outcome(True)], [outcome(False)]]
    texts = Reader(render([Section("Page", [Table(["x"], cells)])], NOWHERE)).texts
    assert {"✓ passed", "✗ FAILED"} <= set(texts)


@given(st.text(max_size=20).map(lambda text: f"<b>{text}&amp"))
def test_any_text_arrives_unchanged(text: str) -> None:
    blocks = [
        Paragraph((text, strong(text))),
        KeyNumbers([(text, text, text)]),
        Table([text], [[text]]),
        Command(text),
    ]
    reader = Reader(render([Section(text, blocks)], NOWHERE))
    assert reader.open == []
    assert reader.texts.count(text) == 2 + 2 + 3 + 2 + 1


def test_a_missing_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        render([Section("Page", [Picture("none.png", "nothing")])], tmp_path)

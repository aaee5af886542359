"""Names that somebody else chose, in reports: they are text, and change nothing else of a page."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

from huggingface_hub import ModelCard

from atd.detectors.config import DetectorConfig
from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.results import Results, read_results
from atd.evaluation.settings import Settings
from atd.reporting import html, markdown
from atd.reporting.card import model_card
from atd.reporting.document import Picture, Section
from atd.reporting.page import page
from atd.reporting.report import summary_table
from tests.fuzz.mutations import damaged_text, damaged_value
from tests.toys import TIER, Brightness, ToySplits, grey

_PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d494844520000000100000001")
HOSTILE = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "&lt;b&gt; &amp; &#x3c;i>",
    "a | b || c",
    "`code` ``` <b>",
    "[link](javascript:alert(1))",
    "![x](https://canary.invalid/x.png)",
    "line\nbreak\r\n# heading\n\n- item",
    "{0} {name} %s %(x)s $x$ \\frac{",
    "bell\x07 escape\x1b[31m nul",
    "\u202eright to left\u2028",
    "Grüße 写真 \U0001f600",
    "=1+1",
    "<!-- comment",
    "<style>*{display:none}</style>",
    "]]> <![CDATA[",
]


@cache
def honest_evaluation() -> Evaluation:
    """An evaluation of toys."""
    sets = ToySplits(
        id_val=grey("dark", 60, 100, 20, seed=1),
        id_test=grey("dark", 60, 100, 20, seed=2),
        ood_test={"far": grey("b", 80, 130, 20, seed=3), "close": grey("c", 64, 110, 20)},
        roles={"far": "far", "close": "near"},
    )
    attack = Settings(tier=TIER, epsilon=8 / 255, progress=False)
    dim = {"dim": Brightness(-1.0)}
    return evaluate(Brightness(), sets, attack, name="toy", path="runs/toy", baselines=dim)


@cache
def honest() -> dict[str, Any]:
    """Its results, as `results.json` holds them."""
    found: dict[str, Any] = json.loads(json.dumps(honest_evaluation().results.to_json()))
    return found


def renamed(word: Callable[[str], str]) -> dict[str, Any]:
    """The honest results with other names of everything that a user names."""
    values = copy.deepcopy(honest())
    values["detector"] |= {key: word(key) for key in ("name", "path", "kind", "sha256")}
    values["id"]["name"] = word("id")
    values["provenance"] |= {key: word(key) for key in ("hardware", "date", "commit")}
    names = {name: f"{word(name)}{index}" for index, name in enumerate(values["datasets"])}
    values["datasets"] = {names[name]: item for name, item in values["datasets"].items()}
    if values.get("mean_over"):
        values["mean_over"] = [names.get(name, name) for name in values["mean_over"]]
    kinds = {name: f"{word(name)}{index}" for index, name in enumerate(values["baselines"])}
    values["baselines"] = {kinds[name]: item for name, item in values["baselines"].items()}
    for check in values["checks"].values():
        check["detail"] = word("detail")
    return values


class _Shape(HTMLParser):
    """The tags of a page with the names of their attributes: what a name must not change."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[object] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.tags.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.tags.append("unknown")


def _as_html(sections: list[Section], folder: Path) -> str:
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                (folder / block.file).write_bytes(_PIXEL)
    return html.render(sections, folder)


def _outline(text: str) -> list[str]:
    """How each line of Markdown begins, and how many cells a row of a table has."""
    lines = text.split("\n")
    cells = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    marks = [re.match(r"#+ |> |- |\| |!\[|    |", line)[0] for line in lines]  # type: ignore[index]
    return [f"{mark}{count}" for mark, count in zip(marks, cells, strict=True)]


def _card_body(results: Results) -> str:
    """A model card without its head, which the Hub reads as data."""
    config = DetectorConfig(
        kind="msp", image_size=8, channels=3, options={}, backbone=None, classes=["a", "b"]
    )
    card = ModelCard(model_card(results, config))
    assert len(card.data.eval_results) == 8 * len(results.datasets), "the head is cut short"
    return card.text


def require_text_only(values: Mapping[str, Any], folder: Path) -> None:
    """Checks that a report of renamed results differs from the honest one in its text alone."""
    results, plain = Results.from_json(values), Results.from_json(honest())
    shown = _as_html(page(results), folder)
    assert _Shape(shown).tags == _Shape(_as_html(page(plain), folder)).tags, "HTML has other tags"
    for render in (lambda found: markdown.render(page(found)), _card_body):
        text = render(results)
        assert _outline(text) == _outline(render(plain)), "Markdown has another outline"
        text = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # without code
        text = re.sub(r"(?m)^    .*$", "", text)
        assert not re.search(r"(?<!\\)<(script|img|style|b>)", text), "HTML in Markdown"
        assert not re.search(r"(?<!\\)\]\((javascript|https://canary)", text), "a link"
    lines = [summary_table(found).split("\n") for found in (results, plain)]
    assert len(lines[0]) == len(lines[1])
    assert all(line.isprintable() for line in lines[0]), "control characters on a terminal"


def hostile_names(rng: Random, scratch: Path) -> Callable[[], object]:
    """A report whose names are hostile."""
    values = renamed(lambda name: damaged_text(rng, rng.choice([*HOSTILE, name])))
    return lambda: require_text_only(values, scratch)


def a_result_file(rng: Random, scratch: Path) -> Callable[[], object]:
    """results.json, damaged."""
    file = scratch / "results.json"
    values = damaged_value(rng, honest())
    file.write_text(json.dumps(values), encoding="utf-8")
    return lambda: read_results(file).to_json()

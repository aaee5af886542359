"""Pages as Markdown (GitHub's flavour)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atd.errors import printable
from atd.reporting.document import (
    Banner,
    Block,
    Command,
    KeyNumbers,
    Paragraph,
    Picture,
    Section,
    Span,
    Style,
    Table,
    Text,
    spans,
)

__all__ = ["escaped", "in_cell", "render", "verbatim"]

_STYLES: dict[Style, str] = {
    "plain": "{}",
    "strong": "**{}**",
    "emphasis": "*{}*",
    "quiet": "({})",
    "passed": "{}",
    "failed": "**{}**",
}

_AT_THE_START = re.compile(r"^[#>+=~-]")
# An underscore is special at the edge of a word only, and set names are full of others.
_SPECIAL = re.compile(r"[\\`*<]|\](?=\()|(?<![^\W_])_|_(?![^\W_])")


def render(sections: Sequence[Section]) -> str:
    """A page as Markdown that refers to the pictures beside it.

    Args:
        sections: The page; the title of the first section is that of the page.
    """
    parts = []
    for number, section in enumerate(sections):
        parts.append(f"{'##' if number else '#'} {_text(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Text that somebody chose, as text: no markup, one line."""
    return _SPECIAL.sub(r"\\\g<0>", _one_line(text))


def verbatim(text: str) -> str:
    """Text as code, whatever it holds."""
    words = _one_line(text)
    runs = [len(run) for run in re.findall("`+", words)]
    if not runs:
        return f"`{words}`"
    fence = "`" * (max(runs) + 1)
    return f"{fence} {words} {fence}"


def in_cell(markdown: str) -> str:
    """Markdown as the cell of a table."""
    return markdown.replace("|", "\\|")


def _one_line(text: str) -> str:
    return printable(text.replace("\n", " "), 10_000)


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _AT_THE_START.sub(r"\\\g<0>", _text(text))
        case Banner(text, good):
            return f"> {'✓' if good else '⚠ **Warning.**'} {_text(text)}"
        case KeyNumbers(items):
            return "\n".join(
                f"- **{_text(number)}** {_text(label)}: {_text(meaning)}"
                for label, number, meaning in items
            )
        case Table():
            return _table(block)
        case Picture(file, alt):
            return f"![{escaped(alt)}]({file})"
        case Command(text):
            return f"    {_one_line(text)}"


def _table(table: Table) -> str:
    rule = ["---" if column in table.left else "---:" for column in range(len(table.head))]
    rows = [[in_cell(_text(cell)) for cell in row] for row in [table.head, *table.rows]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def _text(text: Text) -> str:
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    if span.style == "code":
        return verbatim(span.text)
    return _STYLES[span.style].format(escaped(span.text))

"""Pages as Markdown (GitHub's flavour)."""

from __future__ import annotations

import re
from collections.abc import Sequence

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

__all__ = ["render"]

_STYLES: dict[Style, str] = {
    "plain": "{}",
    "strong": "**{}**",
    "emphasis": "*{}*",
    "code": "`{}`",
    "quiet": "({})",
    "passed": "{}",
    "failed": "**{}**",
}

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


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _text(text)
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
            return f"![{alt}]({file})"
        case Command(text):
            return f"    {text}"


def _table(table: Table) -> str:
    rule = ["---" if column in table.left else "---:" for column in range(len(table.head))]
    rows = [[_text(cell).replace("|", "\\|") for cell in row] for row in [table.head, *table.rows]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def _text(text: Text) -> str:
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    # A line break would end a heading or a table row.
    words = span.text.replace("\n", " ")
    return _STYLES[span.style].format(
        words if span.style == "code" else _SPECIAL.sub(r"\\\g<0>", words)
    )

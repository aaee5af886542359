"""A page as plain data: sections of paragraphs, tables and pictures, in no format yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Banner",
    "Block",
    "Command",
    "KeyNumbers",
    "Paragraph",
    "Picture",
    "Section",
    "Span",
    "Style",
    "Table",
    "Text",
    "code",
    "emphasis",
    "outcome",
    "quiet",
    "spans",
    "strong",
]

Style = Literal["plain", "strong", "emphasis", "code", "quiet", "passed", "failed"]


@dataclass(frozen=True)
class Span:
    """A stretch of text in one style; renderers escape what is special in their format."""

    text: str
    style: Style = "plain"


Text = str | Span | tuple[str | Span, ...]
"""Text of one style or of several."""


def spans(text: Text) -> list[Span]:
    """Text as a list of spans."""
    parts = text if isinstance(text, tuple) else (text,)
    return [part if isinstance(part, Span) else Span(part) for part in parts]


def strong(text: str) -> Span:
    """Text that stands out."""
    return Span(text, "strong")


def emphasis(text: str) -> Span:
    """A term or a title."""
    return Span(text, "emphasis")


def code(text: str) -> Span:
    """A file name or an option, verbatim."""
    return Span(text, "code")


def quiet(text: str) -> Span:
    """An aside that stays in the background."""
    return Span(text, "quiet")


def outcome(passed: bool) -> Span:
    """`passed` or `FAILED`."""
    return Span("passed", "passed") if passed else Span("FAILED", "failed")


@dataclass(frozen=True)
class Paragraph:
    """Running text; an aside stays in the background."""

    text: Text
    aside: bool = False


@dataclass(frozen=True)
class Banner:
    """The one thing to know before all numbers, good or bad."""

    text: Text
    good: bool


@dataclass(frozen=True)
class KeyNumbers:
    """A few numbers to see at a glance: (label, number, meaning) each."""

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Rows under a head.

    Attributes:
        head: Titles of the columns.
        rows: Cells.
        left: Columns that are flush left; the others are flush right.
        prose: Whether the last column is running text, which a narrow page puts below the others.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    left: Sequence[int] = (0,)
    prose: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture file beside the page, and what it shows for those who do not see it."""

    file: str
    alt: str


@dataclass(frozen=True)
class Command:
    """A command line to copy."""

    text: str


Block = Paragraph | Banner | KeyNumbers | Table | Picture | Command


@dataclass(frozen=True)
class Section:
    """A titled part of a page; the first section's title is the page's."""

    title: str
    blocks: Sequence[Block]

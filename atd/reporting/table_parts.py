"""What the pages of the paper's tables have in common."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol, TypeVar

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Provenance
from atd.records import to_json
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.wording import measured_on

__all__ = ["by_setting", "missing_words", "page_of", "short_verdict", "table"]


class _Measured(Protocol):
    """Something that was measured."""

    @property
    def provenance(self) -> Provenance: ...


class _OfSetting(Protocol):
    """What tells the setting of a row."""

    @property
    def config(self) -> str: ...

    @property
    def scale(self) -> str: ...

    @property
    def overrides(self) -> tuple[str, ...]: ...


Row = TypeVar("Row", bound=_OfSetting)


def by_setting(
    rows: Iterable[Row], what: str, name: Callable[[Row], str]
) -> dict[str, dict[str, list[Row]]]:
    """Rows by the heading of their setting, with the command that makes them, and by name.

    Args:
        rows: Rows of any settings and seeds.
        what: The WHAT of the command.
        name: What a row is called.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(_heading(row, what), {}).setdefault(name(row), []).append(row)
    return found


def _heading(row: _OfSetting, what: str) -> str:
    overrides = "".join(f", {verbatim(words)}" for words in row.overrides)
    command = [f"python -m atd.reproduce {what} --scale {row.scale} --config {row.config}"]
    words = " ".join([*command, *map(shlex.quote, row.overrides)])
    return f"## {escaped(row.config)}, scale {row.scale}{overrides}\n\n    {words}"


def page_of(rows: Iterable[_Measured], *parts: str) -> str:
    """The parts of a page, and after them code, hardware and dates of all its rows."""
    measured = measured_on([to_json(row.provenance) for row in rows])
    told = (
        "## Where the numbers come from\n\nEvery row with its options is in the JSON file of the "
        f"same name:\n\n{measured}\n"
    )
    return "\n\n".join([*parts, told])


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Container[int] = (0,)) -> str:
    """A table in Markdown.

    Args:
        head: Titles of the columns.
        rows: Cells, which are Markdown already.
        words: Columns of words, which stand to the left; those of numbers stand to the right.
    """
    rule = "|".join("---" if column in words else "---:" for column in range(len(head)))
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([first, f"|{rule}|", *others])


def missing_words(whole: Sequence[str], there: Sequence[str]) -> str:
    """Says which rows a table lacks; empty where it is whole."""
    lacking = [name for name in whole if name not in there]
    if not lacking:
        return ""
    return f"\n\n**Not measured yet**: {'; '.join(map(escaped, lacking))}."


def short_verdict(verdict: str) -> str:
    """`trusted`, or what the checks found, as the cell of a table."""
    return "trusted" if verdict == TRUSTED else escaped(verdict).replace("|", "/")

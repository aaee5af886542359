"""What the pages of the paper's tables have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Provenance
from atd.records import to_json
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.wording import measured_on

__all__ = ["heading", "missing_words", "provenance_section", "short_verdict"]


class _OfSetting(Protocol):
    """What tells the setting of a row."""

    @property
    def config(self) -> str: ...

    @property
    def scale(self) -> str: ...

    @property
    def overrides(self) -> tuple[str, ...]: ...


def heading(row: _OfSetting, what: str) -> str:
    """The heading of a setting's table, and the command that makes it."""
    overrides = "".join(f", {verbatim(words)}" for words in row.overrides)
    command = [f"python -m atd.reproduce {what} --scale {row.scale} --config {row.config}"]
    words = " ".join([*command, *row.overrides])
    return f"## {escaped(row.config)}, scale {row.scale}{overrides}\n\n    {words}"


def provenance_section(provenances: Sequence[Provenance]) -> str:
    """Code, hardware and dates of all rows."""
    measured = measured_on([to_json(item) for item in provenances])
    return (
        "## Where the numbers come from\n\nEvery row with its options is in the JSON file of the "
        f"same name:\n\n{measured}\n"
    )


def missing_words(whole: Sequence[str], there: Sequence[str]) -> str:
    """Says which rows a table lacks; empty where it is whole."""
    lacking = [name for name in whole if name not in there]
    if not lacking:
        return ""
    return f"\n\n**Not measured yet**: {'; '.join(map(escaped, lacking))}."


def short_verdict(verdict: str) -> str:
    """`trusted`, or what the checks found, as the cell of a table."""
    return "trusted" if verdict == TRUSTED else escaped(verdict).replace("|", "/")

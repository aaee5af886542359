"""A score for every image as CSV or JSON lines, whatever the files are called."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TextIO

from atd.errors import printable

if TYPE_CHECKING:
    from atd.detectors.streaming import FileScore

__all__ = ["write_rows"]

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula, also in full width."""


def write_rows(rows: Iterable[FileScore], kind: Literal["csv", "jsonl"], stream: TextIO) -> None:
    r"""Writes rows as they come.

    Bytes of a path that are not UTF-8 are written `\xff`. In CSV so are control characters, and a
    path that a spreadsheet would take for a formula begins with `./`, which names the same file.
    JSON is pure ASCII. Rows with a p-value have one more column.

    Args:
        rows: The rows.
        kind: `csv` (with a header line, written with the first row) or `jsonl`.
        stream: Where to write.
    """
    table = csv.writer(stream, lineterminator="\n")
    for number, row in enumerate(rows):
        score = None if row.score is None else float(f"{row.score:.9g}")  # float32, exactly
        values: dict[str, Any] = {"path": row.path, "score": score, "is_ood": row.is_ood}
        if row.p_value is not None:
            values["p_value"] = float(f"{row.p_value:.9g}")
        values["error"] = row.error
        if kind == "csv":
            if number == 0:
                table.writerow(values)
            values["path"], values["error"] = _cell(row.path, "./"), _cell(row.error, "'")
            table.writerow(map(_word, values.values()))
        else:
            values["path"], values["error"] = _utf8(row.path), _utf8(row.error) or None
            stream.write(json.dumps(values, allow_nan=False) + "\n")


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _cell(text: str, prefix: str) -> str:
    shown = printable(text, max(len(text), 1000))
    return prefix + shown if shown.lstrip().startswith(_FORMULA) else shown


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

"""A score for every image as CSV or JSON lines, whatever the files are called."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TextIO

from atd.errors import printable

if TYPE_CHECKING:
    from atd.detectors.streaming import FileScore

__all__ = ["write_rows"]

_COLUMNS = ("path", "score", "is_ood", "error")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula, also in full width."""


def write_rows(rows: Iterable[FileScore], kind: Literal["csv", "jsonl"], stream: TextIO) -> None:
    r"""Writes rows as they come.

    Bytes of a path that are not UTF-8 are written `\xff`. In CSV so are control characters, and a
    path that a spreadsheet would take for a formula begins with `./`, which names the same file.
    JSON is pure ASCII.

    Args:
        rows: The rows.
        kind: `csv` (with a header line) or `jsonl`.
        stream: Where to write.
    """
    table = csv.writer(stream, lineterminator="\n")
    if kind == "csv":
        table.writerow(_COLUMNS)
    for row in rows:
        score = None if row.score is None else float(f"{row.score:.9g}")  # float32, exactly
        if kind == "csv":
            flag = "" if row.is_ood is None else str(row.is_ood).lower()
            path = _cell(row.path, "./")
            table.writerow([path, "" if score is None else score, flag, _cell(row.error, "'")])
        else:
            values = (_utf8(row.path), score, row.is_ood, _utf8(row.error) or None)
            line = dict(zip(_COLUMNS, values, strict=True))
            stream.write(json.dumps(line, allow_nan=False) + "\n")


def _cell(text: str, prefix: str) -> str:
    shown = printable(text, max(len(text), 1000))
    return prefix + shown if shown.startswith(_FORMULA) else shown


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

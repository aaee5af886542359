"""Results and pages as files, each whole or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atd.files import write_text
from atd.reporting import html, markdown
from atd.reporting.document import Section

__all__ = ["write_json", "write_page"]


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file.

    Raises:
        ValueError: A number is not finite, which JSON cannot say.
    """
    write_text(file, json.dumps(value, indent=2, allow_nan=False))


def write_page(sections: Sequence[Section], file: Path) -> Path:
    """Writes a page as HTML and, last, as Markdown.

    Args:
        sections: The page; its pictures lie in the folder already.
        file: The Markdown file; the HTML file beside it has the same stem.

    Returns:
        `file`.
    """
    write_text(file.with_suffix(".html"), html.render(sections, file.parent))
    write_text(file, markdown.render(sections))
    return file

"""The kinds of detectors as a table, from what each says of itself."""

from __future__ import annotations

import re

from atd.config.values import option_types
from atd.detectors.kinds import KINDS, kind_class
from atd.reporting.table_parts import table

__all__ = ["kinds_table", "paper_link"]

_NEEDS = {
    "logits": "class logits",
    "labels": "labels",
    "outliers": "outliers",
    "fitting": "a fit",
    "training": "training",
}


def paper_link(paper: str) -> str:
    """A paper's description with its arXiv number as a link, in Markdown."""
    return re.sub(r"arXiv:(\S+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def kinds_table() -> str:
    """All kinds in Markdown: method, paper, options, needs, passes, gradient, export."""
    head = [
        "`detector.kind`",
        "method",
        "paper",
        "options",
        "needs",
        "passes",
        "gradient",
        "export",
    ]
    rows = []
    for kind in KINDS:
        cls = kind_class(kind)
        info = cls.info
        options = (
            [f"`{name}`" for name in option_types(cls.Options)] if kind != "atd" else ["`atd.*`"]
        )
        needs = [words for need, words in _NEEDS.items() if need in info.needs]
        export = "yes" if info.exportable is True else f"no: {info.exportable}"
        cells = (
            f"`{kind}`",
            info.title,
            paper_link(info.paper),
            ", ".join(options) or "none",
            ", ".join(needs) or "nothing",
            f"{info.passes:g}" if info.passes else "varies",
            info.gradient,
            export,
        )
        rows.append(cells)
    return table(head, rows, words=(0, 1, 2, 3, 4, 6, 7))

"""What the pages of figures have in common: rows of detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atd.evaluation.results import Provenance
from atd.reporting.markdown import escaped, verbatim

__all__ = ["FigureRow", "refusals"]


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """What came of one detector with one seed.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        name: Kind and backbone, see `atd.experiments.variants`.
        provenance: Where the row comes from.
        attack: The attack in words.
        images: ID test images.
        refused: Why there is nothing to show; empty where there is.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    name: str
    provenance: Provenance
    attack: str = ""
    images: int = 0
    refused: str = ""


def refusals(rows: Sequence[FigureRow]) -> str:
    """A line for each detector that could not be shown; empty where there is none."""
    lines = [f"{verbatim(row.name)}: {escaped(row.refused)}." for row in rows if row.refused]
    return "".join(f"\n\n{line}" for line in lines)

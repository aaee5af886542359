"""The paper's figure 2: how an attack shifts the scores of ID and of OOD images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from atd.metrics import CONDITIONS
from atd.reporting.drawing import BLUE, VERMILION, footer, grid
from atd.reporting.figure_rows import FigureRow, refusals
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.table_parts import by_setting, page_of, table
from atd.reporting.wording import percent, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ShiftRow", "shift_figure", "shift_page"]


@dataclass(frozen=True, kw_only=True)
class ShiftRow(FigureRow):
    """Scores of either side, `ID, clean` to `OOD, attacked`, the far sets pooled.

    Attributes:
        low: Where the first bin begins.
        high: Where the last one ends.
        shares: Share of the images in each bin; outermost scores are in the first and the last.
        medians: Median scores.
        auroc: AUROC by condition.
    """

    low: float = 0.0
    high: float = 0.0
    shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    medians: Mapping[str, float] = field(default_factory=dict)
    auroc: Mapping[str, float] = field(default_factory=dict)


_PAIRS = {
    "clean": ("ID, clean", "OOD, clean"),
    "in": ("ID, attacked", "OOD, clean"),
    "out": ("ID, clean", "OOD, attacked"),
    "both": ("ID, attacked", "OOD, attacked"),
}


def shift_page(rows: Sequence[ShiftRow], picture: str) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every detector with every seed; at least one.
        picture: Name of the picture beside the page.
    """
    parts = [
        "# Figure 2: how an attack shifts scores",
        "ID images are attacked so that their score rises, OOD images so that it falls. Where the "
        "two sides change places, the AUROC falls below 50 %.",
    ]
    if any(not row.refused for row in rows):
        parts.append(f"![Histograms of scores: clean, ID, OOD and both attacked]({picture})")
    for head, names in by_setting(rows, "figure2", lambda row: row.name).items():
        every = [row for found in names.values() for row in found]
        parts.append(head + _table([row for row in every if not row.refused]) + refusals(every))
    parts.append(
        "## What differs from the paper\n\nThe paper shows ALOE and OSAD on CIFAR-10 at 8/255: "
        "`msp@aloe` and `openmax@osad`, where they were measured here. Images and radius are those "
        "of the config, and ATD stands beside them. The "
        "histograms are those of the score that is reported, larger for OOD. AUROC here is that of "
        "the pooled far sets, in tables elsewhere the mean over them. No checks are run here: "
        "[detectors.md](detectors.md) has them."
    )
    return page_of(rows, *parts)


def _table(rows: Sequence[ShiftRow]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        aurocs = [percent(row.auroc[condition]) for condition in CONDITIONS]
        medians = [
            f"{row.medians[f'{side}, clean']:.3g} to {row.medians[f'{side}, attacked']:.3g}"
            for side in ("ID", "OOD")
        ]
        lines.append([verbatim(row.name), str(row.provenance.seed), *aurocs, *medians])
    head = ["detector", "seed", *CONDITIONS, "median, ID", "median, OOD"]
    return (
        f"\n\n{escaped(rows[0].attack)}, on {plural(rows[0].images, 'ID image')}; AUROC in percent "
        f"over the pooled far sets, and median scores clean and attacked:\n\n{table(head, lines)}"
    )


def shift_figure(rows: Sequence[ShiftRow]) -> Figure:
    """A row of histograms for each detector, a column for each condition; the first seed's."""
    settings = by_setting(rows, "figure2", lambda row: row.name)
    shown = [found[0] for names in settings.values() for found in names.values()]
    figure, axes = grid(len(shown), len(_PAIRS), width=2.45, height=1.6, share="row")
    for line, row in zip(axes, shown, strict=True):
        for axis, condition in zip(line, _PAIRS, strict=True):
            _histogram(axis, row, condition)
        line[0].set_ylabel(row.name, fontsize=8)
    for axis, (condition, words) in zip(axes[0], CONDITIONS.items(), strict=True):
        axis.set_title(f"{condition}: {words}\n{axis.get_title()}", fontsize=8)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    footer(
        figure,
        "score (larger = more likely OOD); bars: share of images, ID upwards and OOD downwards, on "
        "a square-root scale",
        "; ".join(dict.fromkeys(f"{row.config}: {row.attack}" for row in shown)),
    )
    return figure


def _histogram(axis: Axes, row: ShiftRow, condition: str) -> None:
    inside, outside = _PAIRS[condition]
    bins = np.linspace(row.low, row.high, len(row.shares[inside]) + 1)
    for name, colour, side in ((inside, BLUE, 1), (outside, VERMILION, -1)):
        heights = side * np.sqrt(np.array(row.shares[name]))
        axis.stairs(heights, bins, fill=True, color=colour, label=name.partition(",")[0])
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_title(f"AUROC {percent(row.auroc[condition])} %", fontsize=8, pad=2)
    axis.set_yticks([])
    axis.tick_params(labelsize=7)

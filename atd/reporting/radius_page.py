"""The paper's figure 1: AUROC of several detectors against the radius of the attack."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atd.reporting.drawing import COLOURS, DASHES, MARKERS, footer, grid
from atd.reporting.figure_rows import FigureRow, refusals
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.table_parts import by_setting, page_of, table
from atd.reporting.wording import fraction_255, percent, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RadiusRow", "radius_figure", "radius_page"]


@dataclass(frozen=True, kw_only=True)
class RadiusRow(FigureRow):
    """AUROC by condition at every radius (`epsilon`), mean over the far sets."""

    points: tuple[Mapping[str, float], ...] = ()


_SIDES = {"in": "ID attacked", "out": "OOD attacked", "both": "both attacked"}


def radius_page(rows: Sequence[RadiusRow], picture: str) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every detector with every seed; at least one.
        picture: Name of the picture beside the page.
    """
    parts = [
        "# Figure 1: AUROC against the radius of the attack",
        "Each score is attacked itself, end to end. `KIND` is read off the network of the config, "
        "`KIND@TRAINING` off one that was trained in another way.",
    ]
    if any(not row.refused for row in rows):
        parts.append(f"![AUROC against epsilon: ID, OOD and both attacked]({picture})")
    for head, names in by_setting(rows, "figure1", lambda row: row.name).items():
        every = [row for found in names.values() for row in found]
        parts.append(head + _table(names) + refusals(every))
    parts.append(
        "## What differs from the paper\n\nThe paper's curves are those of CIFAR-10 at radii up to "
        "8/255, read off large networks; here images and radii are those of the config. It attacks "
        "its baselines with 10 steps of PGD, here every detector gets the same attack, and the "
        "worst iterate counts. Its methods differ: a network trained without attacks stands in for "
        "its vision transformer. No checks are run here: [detectors.md](detectors.md) has them."
    )
    return page_of(rows, *parts)


def _table(names: Mapping[str, Sequence[RadiusRow]]) -> str:
    shown = {name: [row for row in rows if not row.refused] for name, rows in names.items()}
    shown = {name: rows for name, rows in shown.items() if rows}
    if not shown:
        return ""
    first = next(iter(shown.values()))[0]
    radii = [point["epsilon"] for point in first.points]
    lines = [
        [verbatim(name), str(len(rows)), *map(percent, _mean(rows, "both"))]
        for name, rows in shown.items()
    ]
    return (
        f"\n\nBoth sides attacked by {escaped(first.attack)} and at smaller radii, on "
        f"{plural(first.images, 'ID image')}; AUROC in percent, mean over the far sets and over "
        f"seeds:\n\n{table(['detector', 'seeds', *map(fraction_255, radii)], lines)}"
    )


def _mean(rows: Sequence[RadiusRow], side: str) -> list[float]:
    return [
        statistics.mean(point[side] for point in at)
        for at in zip(*(row.points for row in rows), strict=True)
    ]


def radius_figure(rows: Sequence[RadiusRow]) -> Figure:
    """A row of panels for each setting: ID, OOD and both attacked; the mean over seeds."""
    settings = by_setting(rows, "figure1", lambda row: row.name)
    figure, axes = grid(len(settings), 3, width=3.1, height=2.9)
    for number, names in enumerate(settings.values()):
        for axis, (side, title) in zip(axes[number], _SIDES.items(), strict=True):
            axis.axhline(0.5, color="0.75", linewidth=0.8)
            for line, (name, found) in enumerate(names.items()):
                axis.plot(
                    [point["epsilon"] * 255 for point in found[0].points],
                    _mean(found, side),
                    color=COLOURS[line % len(COLOURS)],
                    linestyle=DASHES[line % len(DASHES)],
                    marker=MARKERS[line % len(MARKERS)],
                    markersize=4,
                    label=name,
                    clip_on=False,
                )
            axis.set(title=title, xlabel="epsilon, in 1/255 (L-inf)", ylim=(0, 1.0))
            axis.yaxis.set_major_formatter("{x:.0%}")
        axes[number][0].set_ylabel("AUROC (grey: guessing)")
    labels = {
        label: handle
        for row in axes
        for handle, label in zip(*row[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(labels.values(), labels.keys(), loc="outside upper center", ncols=3)
    footer(figure, "; ".join(dict.fromkeys(f"{row.config}: {row.attack}" for row in rows)))
    return figure

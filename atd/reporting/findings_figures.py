"""The pictures of the page of findings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atd.reporting.drawing import BLUE, COLOURS, VERMILION, footer, grid, save
from atd.reporting.findings_page import ATTACKS, FindingRow, Group, both_attacked, by_recipe
from atd.reporting.wording import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_findings"]


def draw_findings(rows: Sequence[FindingRow], page: Path) -> list[str]:
    """Draws the pictures beside the page, each with a row of axes for every setting.

    Args:
        rows: As of `findings_page`.
        page: The page.

    Returns:
        Names of the files.
    """
    groups = list(by_recipe(rows).values())
    drawings = {"auroc": _auroc_figure, "logits": _logit_figure}
    names = [f"{page.stem}_{name}.png" for name in drawings]
    for name, draw in zip(names, drawings.values(), strict=True):
        save(partial(draw, groups), page.parent / name)
    return names


def _auroc_figure(groups: Sequence[Group]) -> Figure:
    """A group of bars for each recipe; a dot for each seed."""
    figure, axes = grid(len(groups), 1, width=7.0, height=3.2)
    for axis, group in zip(axes[:, 0], groups, strict=True):
        _bars(axis, group)
        axis.set_title(_basis(group), fontsize=8)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    footer(figure, "Dots: seeds. Dotted line: guessing.")
    return figure


def _bars(axis: Axes, group: Group) -> None:
    places = np.arange(len(group))
    for number, (attack, title) in enumerate(ATTACKS.items()):
        at = places + 0.27 * (number - 1)
        heights = [both_attacked(rows, attack) for rows in group.values()]
        axis.bar(at, heights, 0.25, color=COLOURS[number], label=title)
        for place, rows in zip(at, group.values(), strict=True):
            found = [row.attacks[attack]["both"] for row in rows]
            axis.plot([place] * len(found), found, "o", color="black", markersize=2.5)
    axis.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    axis.set_xticks(places, [name.replace(", ", ",\n") for name in group])
    axis.set_ylabel("AUROC, both sides attacked")
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter("{x:.0%}")


def _logit_figure(groups: Sequence[Group]) -> Figure:
    """ID bars stand, OOD bars hang; lines where the released loss goes flat for ID images."""
    columns = max(map(len, groups))
    figure, axes = grid(len(groups), columns, width=2.3, height=2.4, share=True)
    for row_of_axes, group in zip(axes, groups, strict=True):
        for axis, (name, rows) in zip(row_of_axes, group.items(), strict=False):
            _histogram(axis, rows)
            axis.set_title(name.replace(", ", ",\n"), fontsize=8)
            axis.set_xlabel("logit")
        for axis in row_of_axes[len(group) :]:
            axis.set_axis_off()
        row_of_axes[0].set_ylabel("share of images")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    footer(
        figure,
        *(f"Row {number}: {_basis(group)}" for number, group in enumerate(groups, 1)),
        "Unattacked images; left of a line an ID image is not attacked.",
    )
    return figure


def _histogram(axis: Axes, rows: Sequence[FindingRow]) -> None:
    edges = np.array(rows[0].edges)
    for key, colour, side in (("id", BLUE, 1), ("ood", VERMILION, -1)):
        shares = np.mean([row.histogram[key] for row in rows], axis=0)
        axis.stairs(side * shares, edges, fill=True, color=colour, label=key.upper())
    for at, label, dash in ((-17, "flat in float32", "--"), (-7, "flat in bfloat16", ":")):
        axis.axvline(at, color="black", linewidth=1.0, linestyle=dash, label=label)


def _basis(group: Group) -> str:
    rows = next(iter(group.values()))
    first = rows[0]
    seeds = plural(len(rows), "seed")
    return f"{first.config}, scale {first.scale}, {seeds}. {first.paper_attack}."

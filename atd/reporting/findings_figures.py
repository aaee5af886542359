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
    from matplotlib.figure import Figure

__all__ = ["draw_findings"]


def draw_findings(rows: Sequence[FindingRow], page: Path) -> list[str]:
    """Draws the pictures of the first setting beside the page.

    Args:
        rows: As of `findings_page`.
        page: The page.

    Returns:
        Names of the files.
    """
    group = next(iter(by_recipe(rows).values()))
    drawings = {"auroc": _auroc_figure, "logits": _logit_figure}
    names = [f"{page.stem}_{name}.png" for name in drawings]
    for name, draw in zip(names, drawings.values(), strict=True):
        save(partial(draw, group), page.parent / name)
    return names


def _auroc_figure(group: Group) -> Figure:
    """A group of bars for each recipe; a dot for each seed."""
    figure, axes = grid(1, 1, width=7.0, height=3.2)
    axis, places = axes[0][0], np.arange(len(group))
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
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    footer(figure, f"{_basis(group)} Dots: seeds. Dotted line: guessing.")
    return figure


def _logit_figure(group: Group) -> Figure:
    """ID bars stand, OOD bars hang; lines where the released loss goes flat for ID images."""
    figure, axes = grid(1, len(group), width=2.3, height=2.4, share=True)
    for axis, (name, rows) in zip(axes[0], group.items(), strict=True):
        edges = np.array(rows[0].edges)
        for key, colour, side in (("id", BLUE, 1), ("ood", VERMILION, -1)):
            shares = np.mean([row.histogram[key] for row in rows], axis=0)
            axis.stairs(side * shares, edges, fill=True, color=colour, label=key.upper())
        for at, label, dash in ((-17, "flat in float32", "--"), (-7, "flat in bfloat16", ":")):
            axis.axvline(at, color="black", linewidth=1.0, linestyle=dash, label=label)
        axis.set_title(name.replace(", ", ",\n"), fontsize=8)
        axis.set_xlabel("logit")
    axes[0][0].set_ylabel("share of images")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    footer(
        figure, f"{_basis(group)} Unattacked images; left of a line an ID image is not attacked."
    )
    return figure


def _basis(group: Group) -> str:
    rows = next(iter(group.values()))
    first = rows[0]
    seeds = plural(len(rows), "seed")
    return f"{first.config}, scale {first.scale}, {seeds}. {first.paper_attack}."

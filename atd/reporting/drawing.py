"""What all pictures share: colours, fonts, a grid of axes, the line below, saving.

Colours are those of Okabe & Ito, which people with colour-blindness can tell apart; curves
differ in their dashes and markers too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atd.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHES",
    "DPI",
    "MARKERS",
    "VERMILION",
    "footer",
    "grid",
    "marker",
    "save",
    "show_image",
]

BLUE, VERMILION = "#0072B2", "#D55E00"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")

DPI = 140
"""Dots per inch of every PNG file."""

_FONT_SIZE = 9
_STYLE: Any = {
    "font.size": _FONT_SIZE,
    "axes.titlesize": _FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_CHARACTERS_PER_INCH = 17


def save(draw: Callable[[], Figure], file: Path) -> None:
    """Draws a figure in the common style and writes it as a PNG file."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(_STYLE), replacing(file) as temporary:
        figure = draw()
        FigureCanvasAgg(figure)
        figure.savefig(temporary, format="png", dpi=DPI)


def grid(
    rows: int, columns: int, *, width: float, height: float, share: Any = False
) -> tuple[Figure, Any]:
    """A figure and its axes, an array (rows, columns).

    Args:
        rows: Rows of axes.
        columns: Columns of axes.
        width: Width of one axis in inches.
        height: Its height.
        share: Which axes have both scales in common, as in `Figure.subplots`.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Room enough between rows that a title is not taken for part of the axis above it.
    layout = ConstrainedLayoutEngine(h_pad=0.07)
    figure = Figure(figsize=(width * columns, height * rows + 0.7), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)


def footer(figure: Figure, *lines: str) -> None:
    """Small print below all axes, wrapped to the width of the figure."""
    width = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    figure.supxlabel("\n".join(textwrap.fill(line, width) for line in lines), fontsize=8)


def marker(axis: Axes, at: float, label: str) -> None:
    """A dashed vertical line that names a value on the horizontal axis."""
    axis.axvline(at, color="black", linestyle="--", linewidth=1.0, label=label)


def show_image(axis: Axes, image: np.ndarray[Any, np.dtype[np.float32]], title: str) -> None:
    """Shows an image (C, H, W), float in [0, 1], under a title."""
    pixels = np.moveaxis(image, 0, -1)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    axis.imshow(pixels, interpolation="nearest", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)
    for spine in axis.spines.values():
        spine.set(visible=True, color="0.8", linewidth=0.5)

"""The page of the most suspicious images: each with its gradient map and what it resembles."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atd.errors import printable
from atd.files import write_text
from atd.reporting.document import Block, Paragraph, Picture, Section, strong
from atd.reporting.drawing import grid, save, show_image
from atd.reporting.html import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from atd.detectors.streaming import FileScore

__all__ = ["Neighbour", "Suspect", "write_suspects"]

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_COLUMNS = 7
"""Image, map, and up to five others."""


@dataclass(frozen=True)
class Neighbour:
    """A calibration image (C, S, S), its file's name, its score and how alike it is (cosine)."""

    image: Pixels
    name: str
    score: float
    likeness: float


@dataclass(frozen=True)
class Suspect:
    """A suspicious image.

    Attributes:
        row: Its row.
        image: The image (C, S, S) as the detector sees it, uint8.
        gradient: How much the score changes with each pixel (S, S); None where there is no
            gradient.
        neighbours: The calibration images that it resembles most.
    """

    row: FileScore
    image: Pixels
    gradient: Tensor | None
    neighbours: Sequence[Neighbour]


def write_suspects(
    suspects: Sequence[Suspect], seen: int, about: Sequence[str], file: Path
) -> None:
    """Writes the page, one HTML file that needs nothing beside it.

    Args:
        suspects: The images, the most suspicious first.
        seen: How many images there were.
        about: Paragraphs on the detector, its threshold and the calibration images.
        file: The page.

    Raises:
        OSError: It cannot be written.
    """
    how = (
        "Left: the image as the detector sees it. Then, the darker, the more the score changes "
        "with that pixel (absolute gradient of the score, or of its surrogate, summed over the "
        "channels). Right: the calibration images that are most alike in what the detector reads "
        "(cosine of its features), with their scores."
    )
    title = f"The {len(suspects)} most suspicious of {seen:,} images"
    sections = [Section(title, [Paragraph(how), *(Paragraph(text) for text in about)])]
    with tempfile.TemporaryDirectory(prefix="atd-") as folder:
        for number, suspect in enumerate(suspects):
            save(partial(_panel, suspect), Path(folder, f"{number}.png"))
            sections.append(_section(suspect, f"{number}.png"))
        text = render(sections, Path(folder))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)


def _section(suspect: Suspect, picture: str) -> Section:
    row, path = suspect.row, printable(suspect.row.path)
    judged = {True: ", flagged", False: ", accepted", None: ""}[row.is_ood]
    p_value = "" if row.p_value is None else f", p-value {row.p_value:.3g}"
    alt = f"{path}: image, gradient map, nearest calibration images"
    blocks: list[Block] = [
        Paragraph(("Score ", strong(f"{row.score:.5g}"), f"{judged}{p_value}.")),
        Picture(picture, alt),
    ]
    if suspect.neighbours:
        near = ", ".join(f"{printable(x.name)} ({x.likeness:.2f})" for x in suspect.neighbours)
        blocks.append(Paragraph(f"Most alike: {near}.", aside=True))
    return Section(path, blocks)


def _panel(suspect: Suspect) -> Figure:
    figure, axes = grid(1, _COLUMNS, width=1.25, height=1.0)
    shown = [*suspect.neighbours, *[None] * (_COLUMNS - 2 - len(suspect.neighbours))]
    show_image(axes[0][0], _as_floats(suspect.image), "image")
    _draw_map(axes[0][1], suspect.gradient)
    for axis, near in zip(axes[0][2:], shown, strict=True):
        if near is None:
            axis.set_axis_off()
        else:
            show_image(axis, _as_floats(near.image), f"score {near.score:.3g}")
    return figure


def _draw_map(axis: Any, gradient: Tensor | None) -> None:
    axis.set(xticks=[], yticks=[])
    if gradient is None or not float(gradient.max()) > 0:
        axis.set_title("no gradient" if gradient is None else "zero gradient", fontsize=8)
        return
    values = gradient.numpy()
    # A few pixels would take the whole scale.
    axis.imshow(values, cmap="Greys", vmin=0, vmax=float(np.quantile(values, 0.99)) or None)
    axis.set_title("gradient of the score", fontsize=7)


def _as_floats(image: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    return image.astype(np.float32) / np.float32(255)

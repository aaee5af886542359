"""Page and picture of the paper's example in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atd.evaluation.results import Provenance
from atd.metrics import CONDITIONS, Array
from atd.reporting.drawing import BLUE, COLOURS, VERMILION, footer, grid
from atd.reporting.table_parts import page_of, table
from atd.reporting.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Toy", "ToySetting", "toy_figure", "toy_page"]


@dataclass(frozen=True)
class ToySetting:
    """What is attacked in training, and AUROC by condition after it."""

    attacked: tuple[str, ...]
    auroc: Mapping[str, float]


@dataclass(frozen=True)
class Toy:
    """The example: each setting by the letter of its panel."""

    scale: str
    epochs: int
    epsilon: float
    settings: Mapping[str, ToySetting]
    provenance: Provenance


_COLOURS = {"ID": BLUE, "OOD": VERMILION, "generated": COLOURS[2]}


def toy_page(toy: Toy, picture: str) -> str:
    """The page in Markdown.

    Args:
        toy: What was found.
        picture: Name of the picture beside the page.
    """
    rows = [
        [panel, _words(found), *(percent(found.auroc[c]) for c in CONDITIONS)]
        for panel, found in toy.settings.items()
    ]
    told = table(["panel", "attacked in training", *CONDITIONS], rows, words=(0, 1))
    page = f"""\
# Figure 4: what to attack in training, in two dimensions

The example of section 3.2 of the ATD paper, made by

    python -m atd.reproduce figure4 --scale {toy.scale}

![The samples, and the discriminator's output after training in five settings]({picture})

A discriminator tells ID samples (blue) from OOD samples (orange) and generated ones (green), which
are others in each epoch. Background: what it takes for ID (blue) and for OOD (orange). Above each
panel: which samples are attacked in training, with epsilon {toy.epsilon:g} in L-inf.

## What it is worth

AUROC in percent on other ID and OOD samples, clean and attacked with the same epsilon (PGD-50 from
one start; in training 7 steps), one seed:

{told}

## What differs from the paper

The paper gives neither coordinates nor networks, so distributions (an ID disc of radius 2, an OOD
strip 1.2 to its right, generated samples anywhere), network (two hidden layers of 64) and training
({toy.epochs} epochs of Adam) are ours. The gap is less than twice epsilon, so that no discriminator
gets all attacked samples of both sides right. The paper shows pictures only; AUROC is added."""
    return page_of([toy], page)


def toy_figure(
    toy: Toy, points: Mapping[str, Array], maps: Mapping[str, Array], reach: float
) -> Figure:
    """The samples, and the output of the discriminator of each setting.

    Args:
        toy: What was found.
        points: Samples (N, 2) by name; generated ones are those of one epoch.
        maps: Probability of OOD (G, G) over the plane, by panel.
        reach: The plane reaches from -reach to reach.
    """
    figure, axes = grid(2, 3, width=2.7, height=2.9)
    panels = [*axes.flat]
    _scatter(panels[0], points)
    panels[0].set_title("a) samples", fontsize=9)
    for axis, (panel, found) in zip(panels[1:], toy.settings.items(), strict=True):
        axis.imshow(
            maps[panel],
            extent=(-reach, reach, -reach, reach),
            origin="lower",
            cmap=_cmap(),
            vmin=0,
            vmax=1,
        )
        axis.contour(
            maps[panel],
            levels=[0.5],
            colors="black",
            linewidths=0.8,
            extent=(-reach, reach, -reach, reach),
        )
        _scatter(axis, {name: points[name] for name in ("ID", "OOD")})
        both = percent(found.auroc["both"])
        axis.set_title(
            f"{panel}) attacked: {_words(found)}\nAUROC, both attacked: {both} %", fontsize=8
        )
    for axis in panels:
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    footer(figure, "Background: blue is taken for ID, orange for OOD; black: undecided.")
    return figure


def _scatter(axis: Axes, points: Mapping[str, Array]) -> None:
    for name, at in points.items():
        axis.scatter(at[:, 0], at[:, 1], s=4, color=_COLOURS[name], label=name, linewidths=0)


def _cmap() -> object:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sides", ["#bcd9ec", "white", "#f6cdb0"])


def _words(found: ToySetting) -> str:
    return " and ".join(found.attacked) or "nothing"

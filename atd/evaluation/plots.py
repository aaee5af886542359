"""Pictures of an evaluation: score histograms, ROC curves, adversarial examples.

Colours are those of Okabe & Ito, which people with colour-blindness can tell apart; curves
differ in their dashes too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atd.evaluation.files import replacing
from atd.evaluation.metrics import Array, auroc
from atd.evaluation.scoring import ScoredSet
from atd.evaluation.wording import attack_words, fraction_255

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from atd.evaluation.protocol import Evaluation

__all__ = ["example_figure", "histogram_figure", "roc_figure", "save_plots"]

_BLUE, _VERMILION, _BLACK = "#0072B2", "#D55E00", "#000000"
_CURVES = (_BLUE, _VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", _BLACK, "#8C7A00")
_DASHES = ("-", "--", "-.", ":")
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def save_plots(evaluation: Evaluation, folder: Path) -> list[str]:
    """Draws every picture of an evaluation into a folder.

    Args:
        evaluation: What `evaluate` returned.
        folder: Where the PNG files go.

    Returns:
        Names of the files: `scores.png`, `roc.png` and `examples.png`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawings = {
        "scores.png": histogram_figure,
        "roc.png": roc_figure,
        "examples.png": example_figure,
    }
    for name, draw in drawings.items():
        with matplotlib.rc_context(_STYLE), replacing(folder / name) as temporary:
            figure = draw(evaluation)
            FigureCanvasAgg(figure)
            figure.savefig(temporary, format="png", dpi=140)
    return list(drawings)


def histogram_figure(evaluation: Evaluation) -> Figure:
    """Score histograms: a row per OOD set, unchanged on the left and attacked on the right."""
    figure, axes = _grid(len(evaluation.ood), 2, width=3.6, height=1.7)
    threshold = float(evaluation.results["threshold"]["value"])
    for row, (name, outside) in zip(axes, evaluation.ood.items(), strict=True):
        inside = evaluation.id_test
        bins = _bins([inside.clean, inside.attacked, outside.clean, outside.attacked])
        _histogram(row[0], inside.clean, outside.clean, bins, threshold)
        _histogram(row[1], inside.attacked, outside.attacked, bins, threshold)
        row[0].set_ylabel(name)
    axes[0][0].set_title("unchanged images")
    axes[0][1].set_title("attacked images")
    figure.supxlabel(f"score (larger = more likely OOD)\n{_attack(evaluation)}", fontsize=8)
    names = [f"ID ({evaluation.id_test.name})", "OOD", "threshold"]
    handles, _ = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def roc_figure(evaluation: Evaluation) -> Figure:
    """ROC curves of every OOD set, unchanged on the left and both sides attacked on the right."""
    figure, axes = _grid(1, 2, width=4.2, height=4.0)
    inside = evaluation.id_test
    panels = (("unchanged images", "clean"), ("ID and OOD images attacked", "attacked"))
    for axis, (title, kind) in zip(axes[0], panels, strict=True):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
        for number, (name, outside) in enumerate(evaluation.ood.items()):
            id_scores, ood_scores = getattr(inside, kind), getattr(outside, kind)
            axis.plot(
                *_roc(id_scores, ood_scores),
                color=_CURVES[number % len(_CURVES)],
                linestyle=_DASHES[number % len(_DASHES)],
                label=f"{name}: {auroc(id_scores, ood_scores):.1%}",
            )
        axis.set(title=title, xlabel="share of ID images flagged", aspect="equal")
        axis.set(xlim=(0, 1), ylim=(0, 1.005))
        axis.legend(title="AUROC", loc="lower right", fontsize=8)
    axes[0][0].set_ylabel("share of OOD images flagged")
    figure.supxlabel(_attack(evaluation), fontsize=8)
    return figure


def example_figure(evaluation: Evaluation) -> Figure:
    """Images, what the attacker added (magnified), and the attacked images, with scores."""
    shown = _examples(evaluation)
    epsilon = float(evaluation.results["attack"]["epsilon"])
    figure, axes = _grid(3, len(shown), width=1.55, height=1.75)
    for column, (name, scored, number) in enumerate(shown):
        index = scored.example_index[number]
        image = scored.example_clean[number].astype(np.float32) / 255.0
        attacked = scored.example_attacked[number]
        change = (attacked - image) / (2 * epsilon) + 0.5 if epsilon else np.full_like(image, 0.5)
        _picture(axes[0][column], image, f"{name[:18]}\nscore {scored.clean[index]:.2f}")
        _picture(axes[1][column], change.clip(0, 1), "")
        _picture(axes[2][column], attacked, f"score {scored.attacked[index]:.2f}")
    gain = f" x {1 / (2 * epsilon):.0f}" if epsilon else ""
    for row, label in zip(axes, ("image", f"change{gain}", "attacked"), strict=True):
        row[0].set_ylabel(label)
    radius = fraction_255(epsilon)
    words = f"{_attack(evaluation)}; no pixel moves by more than {radius}"
    figure.supxlabel(words, fontsize=8)
    return figure


def _grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _attack(evaluation: Evaluation) -> str:
    name = evaluation.results["detector"]["name"]
    return f"{name}, attack: {attack_words(evaluation.results['attack'])}"


def _bins(scores: list[Array]) -> Array:
    """Common bins over all but the outermost scores, which are counted in the last bins."""
    low, high = np.quantile(np.concatenate(scores), [0.002, 0.998])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 41)


def _histogram(axis: Axes, inside: Array, outside: Array, bins: Array, threshold: float) -> None:
    for scores, colour, hatch in ((inside, _BLUE, ""), (outside, _VERMILION, "////")):
        axis.hist(
            scores.clip(bins[0], bins[-1]),
            bins=bins.tolist(),
            weights=np.full(len(scores), 1 / len(scores)),
            histtype="stepfilled",
            facecolor=(*_rgb(colour), 0.35),
            edgecolor=colour,
            hatch=hatch,
            linewidth=1.0,
            label=colour,
        )
    axis.axvline(threshold, color=_BLACK, linestyle="--", linewidth=1.0, label="threshold")
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _roc(inside: Array, outside: Array) -> tuple[Array, Array]:
    from sklearn.metrics import roc_curve

    labels = np.concatenate([np.zeros(len(inside)), np.ones(len(outside))])
    flagged_id, flagged_ood, _ = roc_curve(labels, np.concatenate([inside, outside]))
    return flagged_id, flagged_ood


def _examples(evaluation: Evaluation) -> list[tuple[str, ScoredSet, int]]:
    """Three ID images, and three OOD images from as many sets as there are."""
    inside = evaluation.id_test
    chosen = [(inside.name, inside, at) for at in range(min(3, len(inside.example_index)))]
    longest = max(len(scored.example_index) for scored in evaluation.ood.values())
    spread = [
        (name, scored, at)
        for at in range(longest)
        for name, scored in evaluation.ood.items()
        if at < len(scored.example_index)
    ]
    return chosen + spread[:3]


def _picture(axis: Axes, image: np.ndarray[Any, np.dtype[np.float32]], title: str) -> None:
    pixels = np.moveaxis(image, 0, -1)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    axis.imshow(pixels, interpolation="nearest", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)

"""Pictures of scores: histograms, ROC curves, what a threshold accepts."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atd.evaluation.jobs import ScoredSet
from atd.metrics import Array, auroc
from atd.reporting.certificate import certificate_figure
from atd.reporting.curves import epsilon_figure, steps_figure
from atd.reporting.drawing import BLUE, COLOURS, DASHES, VERMILION, footer, grid, marker, save
from atd.reporting.examples import example_figure
from atd.reporting.wording import basis, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from atd.evaluation.protocol import Evaluation

__all__ = ["histogram_figure", "roc_figure", "save_plots", "threshold_figure"]

_TITLES = {
    "clean": "clean",
    "in": "in: ID attacked",
    "out": "out: OOD attacked",
    "both": "both attacked",
}
_BINS = 40
_TICKS = (0.01, 0.05, 0.2, 0.5, 1.0)


def save_plots(evaluation: Evaluation, folder: Path, only: Sequence[str] = ()) -> list[str]:
    """Draws every picture of an evaluation into a folder.

    Args:
        evaluation: What `evaluate` returned.
        folder: Where the PNG files go.
        only: Names of the files that are wanted; none means all.

    Returns:
        Names of the files.
    """
    drawings: dict[str, Callable[[Evaluation], Figure]] = {
        "scores.png": histogram_figure,
        "roc.png": roc_figure,
        "epsilon.png": epsilon_figure,
        "steps.png": steps_figure,
        "threshold.png": threshold_figure,
        "examples.png": example_figure,
    }
    if evaluation.results.certificate is not None:
        drawings["certificate.png"] = certificate_figure
    chosen = only or list(drawings)
    for name in chosen:
        save(partial(drawings[name], evaluation), folder / name)
    return list(chosen)


def histogram_figure(evaluation: Evaluation) -> Figure:
    """Score histograms, as Fig. 2 of the ATD paper: a row per OOD set, a column per condition.

    ID bars stand, OOD bars hang, so that scores of both sides that gather at the same value stay
    visible; the square-root scale does the same for the few that do not gather.
    """
    sets, inside = evaluation.ood, evaluation.id_test
    figure, axes = grid(len(sets), len(_TITLES), width=2.45, height=1.5, share="row")
    threshold = float(evaluation.results.threshold.value)
    for row, (name, outside) in zip(axes, sets.items(), strict=True):
        shown = [inside.clean, inside.attacked, outside.clean, outside.attacked]
        bins = _bins(shown, threshold)
        for axis, condition in zip(row, _TITLES, strict=True):
            _histogram(axis, *_pair(inside, outside, condition), bins)
            marker(axis, threshold, "threshold")
            axis.tick_params(labelsize=7)
        _share_ticks(row[0])
        row[0].set_ylabel(textwrap.fill(name[:32], 16), fontsize=8)
    for axis, title in zip(axes[0], _TITLES.values(), strict=True):
        axis.set_title(title + "\n" + axis.get_title(), fontsize=9)
    scale = "score (larger = more likely OOD); bars: share of images, square-root scale"
    footer(figure, scale, f"{_name(evaluation)}. {basis(evaluation.results)}")
    labels = [f"ID ({inside.name}), upwards", "OOD, downwards", "threshold"]
    handles, _ = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def roc_figure(evaluation: Evaluation) -> Figure:
    """ROC curves of every OOD set, unchanged on the left and both sides attacked on the right."""
    figure, axes = grid(1, 2, width=4.4, height=4.2)
    panels = (("unchanged images", "clean"), ("ID and OOD images attacked", "both"))
    for axis, (title, condition) in zip(axes[0], panels, strict=True):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
        for number, (name, outside) in enumerate(evaluation.ood.items()):
            pair = _pair(evaluation.id_test, outside, condition)
            axis.plot(
                *_roc(*pair),
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number % len(DASHES)],
                label=f"{name}: {auroc(*pair):.1%}",
            )
        axis.set(title=title, xlabel="share of ID images flagged", aspect="equal")
        axis.set(xlim=(-0.01, 1.01), ylim=(0, 1.01))
        axis.legend(title="AUROC", loc="lower right", fontsize=8)
    axes[0][0].set_ylabel("share of OOD images flagged")
    footer(figure, f"{_name(evaluation)}. {basis(evaluation.results)}")
    return figure


def threshold_figure(evaluation: Evaluation) -> Figure:
    """Share of ID and OOD images accepted against the threshold, clean and attacked."""
    figure, axes = grid(1, 1, width=7.0, height=3.6)
    axis, inside = axes[0][0], evaluation.id_test
    outside = [evaluation.ood[name] for name in evaluation.results.mean_over]
    value = float(evaluation.results.threshold.value)
    curves = {
        "ID, clean": (inside.clean, BLUE, "-"),
        "ID, attacked": (inside.attacked, BLUE, "--"),
        "OOD, clean": (np.concatenate([scored.clean for scored in outside]), VERMILION, "-"),
        "OOD, attacked": (np.concatenate([scored.attacked for scored in outside]), VERMILION, "--"),
    }
    low, high = _reach([scores for scores, _, _ in curves.values()], value)
    margin = 0.04 * (high - low)
    at = np.linspace(low - margin, high + margin, 600)
    marker(axis, value, f"stored threshold, {value:.4g}")
    for name, (scores, colour, dash) in curves.items():
        accepted = np.searchsorted(np.sort(scores), at, side="right") / len(scores)
        share = float((scores <= value).mean())
        label = f"{name}: {percent(share)} % at the stored threshold"
        axis.plot(at, accepted, color=colour, linestyle=dash, label=label)
        axis.plot(value, share, color=colour, marker="o", markersize=4)
    axis.set(xlabel="threshold", ylabel="share of images accepted", xlim=(at[0], at[-1]))
    axis.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    footer(figure, f"{_name(evaluation)}. {basis(evaluation.results)}")
    return figure


def _name(evaluation: Evaluation) -> str:
    name: str = evaluation.results.detector.name
    return name


def _pair(inside: ScoredSet, outside: ScoredSet, condition: str) -> tuple[Array, Array]:
    """Scores of both sides under a condition."""
    return (
        inside.attacked if condition in ("in", "both") else inside.clean,
        outside.attacked if condition in ("out", "both") else outside.clean,
    )


def _reach(scores: list[Array], threshold: float) -> tuple[float, float]:
    """The range of all but the outermost scores, with the threshold in it."""
    low, high = np.quantile(np.concatenate(scores), [0.002, 0.998])
    low, high = min(float(low), threshold), max(float(high), threshold)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _bins(scores: list[Array], threshold: float) -> Array:
    """Edges of common bins; outermost scores are counted in the last ones."""
    low, high = _reach(scores, threshold)
    return np.linspace(low, high, _BINS + 1)


def _histogram(axis: Axes, inside: Array, outside: Array, bins: Array) -> None:
    for scores, colour, side in ((inside, BLUE, 1), (outside, VERMILION, -1)):
        counts, _ = np.histogram(scores.clip(bins[0], bins[-1]), bins)
        heights = side * np.sqrt(counts / len(scores))
        axis.stairs(heights, bins, fill=True, color=colour, label=colour)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_title(f"AUROC {percent(auroc(inside, outside))} %", fontsize=8, pad=2)


def _share_ticks(axis: Axes) -> None:
    """Ticks at round shares on the square-root scale, the same above and below zero."""
    highest = max(map(abs, axis.get_ylim()))
    shares = [share for share in _TICKS if share**0.5 <= highest][-2:]
    places = [side * share**0.5 for share in shares for side in (1, -1)]
    axis.set_yticks([0, *places], ["0", *(f"{share:.0%}" for share in shares for _ in (1, -1))])
    axis.set_ylim(-1.05 * highest, 1.05 * highest)


def _roc(inside: Array, outside: Array) -> tuple[Array, Array]:
    from sklearn.metrics import roc_curve

    labels = np.concatenate([np.zeros(len(inside)), np.ones(len(outside))])
    flagged_id, flagged_ood, _ = roc_curve(labels, np.concatenate([inside, outside]))
    return flagged_id, flagged_ood

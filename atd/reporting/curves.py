"""Pictures of AUROC against the strength of the attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from atd.evaluation.results import Results
from atd.reporting.drawing import COLOURS, DASHES, MARKERS, footer, grid, marker
from atd.reporting.wording import curve_basis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from atd.evaluation.protocol import Evaluation

__all__ = ["comparison_figure", "epsilon_figure", "steps_figure"]

_SIDES = {"in": "in: ID attacked", "out": "out: OOD attacked", "both": "both attacked"}

Points = Sequence[Mapping[str, float]]


def epsilon_figure(evaluation: Evaluation) -> Figure:
    """AUROC against the attack radius, as Fig. 1 of the ATD paper: in, out and both."""
    results = evaluation.results
    figure, axis = _axis()
    _sides(axis, results.curves.epsilon, "epsilon", unit=_unit(results))
    _radius_axis(axis, results)
    _finish(figure, axis, f"{results.detector.name}. {curve_basis(results, 'epsilon')}")
    return figure


def steps_figure(evaluation: Evaluation) -> Figure:
    """AUROC against the steps of the attack: in, out and both."""
    results = evaluation.results
    points = results.curves.steps
    figure, axis = _axis()
    _sides(axis, points, "steps", unit=1.0)
    steps = [point["steps"] for point in points]
    # Logarithmic from the first step on, with room for the unattacked images at 0.
    axis.set_xscale("symlog", linthresh=1, linscale=0.3)
    axis.set_xticks(steps, [str(step) for step in steps])
    axis.minorticks_off()
    axis.set_xlabel("steps of the attack")
    _finish(figure, axis, f"{results.detector.name}. {curve_basis(results, 'steps')}")
    return figure


def comparison_figure(evaluations: Mapping[str, Evaluation], note: str) -> Figure:
    """AUROC against the attack radius, both sides attacked, of several detectors.

    Args:
        evaluations: By label; all of the same norm and epsilon.
        note: Attacks and verdicts, for the line below.
    """
    figure, axis = _axis()
    for number, (label, evaluation) in enumerate(evaluations.items()):
        results = evaluation.results
        points = results.curves.epsilon
        _line(axis, points, "epsilon", "both", unit=_unit(results), number=number, label=label)
    _radius_axis(axis, results)
    _finish(figure, axis, note)
    return figure


def _axis() -> tuple[Figure, Axes]:
    figure, axes = grid(1, 1, width=6.4, height=3.6)
    axes[0][0].axhline(0.5, color="0.75", linewidth=0.8)
    return figure, axes[0][0]


def _sides(axis: Axes, points: Points, key: str, *, unit: float) -> None:
    for number, (side, label) in enumerate(_SIDES.items()):
        _line(axis, points, key, side, unit=unit, number=number, label=label)


def _line(
    axis: Axes, points: Points, key: str, side: str, *, unit: float, number: int, label: str
) -> None:
    axis.plot(
        [point[key] / unit for point in points],
        [point[side] for point in points],
        color=COLOURS[number % len(COLOURS)],
        linestyle=DASHES[number % len(DASHES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        label=label,
        clip_on=False,
    )


def _unit(results: Results) -> float:
    """Radii are counted in pixel levels for L-inf, and as they are for other norms."""
    return 1 / 255 if results.attack.norm == "linf" else 1.0


def _radius_axis(axis: Axes, results: Results) -> None:
    levels = results.attack.norm == "linf"
    axis.set_xlabel("epsilon, in 1/255 (L-inf)" if levels else "epsilon (L2)")
    marker(axis, results.attack.epsilon / _unit(results), "evaluated epsilon")


def _finish(figure: Figure, axis: Axes, note: str) -> None:
    axis.set(ylabel="AUROC (grey: guessing)", ylim=(0, 1.0))
    axis.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    footer(figure, note)

"""Several detectors, judged on the same images by equally large attacks, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atd.errors import UserError
from atd.evaluation.results import Results
from atd.metrics import CONDITIONS
from atd.reporting.certificate import certified_words
from atd.reporting.comparison_page import comparison_page, curve_note, marked
from atd.reporting.curves import comparison_figure
from atd.reporting.drawing import save
from atd.reporting.output import write_json, write_page
from atd.reporting.wording import attack_words, aurocs, grouped, mean_words

if TYPE_CHECKING:
    from atd.evaluation.protocol import Evaluation

__all__ = ["comparison_table", "write_comparison"]


def write_comparison(evaluations: Sequence[Evaluation], folder: Path) -> Path:
    """Writes `comparison.json`, `epsilon.png`, `comparison.html` and, last, `comparison.md`.

    Args:
        evaluations: One per detector, on the same sets, in the same norm and at the same radius.
        folder: Where the files go; made where it is missing.

    Returns:
        The path of `comparison.md`.

    Raises:
        UserError: The evaluations cannot be compared.
    """
    found = _comparable(evaluations)
    write_json(folder / "comparison.json", _summary(list(found.values())))
    drawn = {
        marked(label, results): evaluation
        for (label, results), evaluation in zip(found.items(), evaluations, strict=True)
    }
    save(partial(comparison_figure, drawn, curve_note(found)), folder / "epsilon.png")
    return write_page(comparison_page(found), folder / "comparison.md")


def comparison_table(evaluations: Sequence[Evaluation]) -> str:
    """Mean AUROC and verdict of every detector, for a terminal.

    Raises:
        UserError: The evaluations cannot be compared.
    """
    found = _comparable(evaluations)
    width = max(map(len, found))
    attacks = grouped({label: attack_words(results.attack) for label, results in found.items()})
    sets = mean_words(next(iter(found.values())))
    lines = [
        f"AUROC in %, mean of {sets}; attack: {attacks}",
        " " * width + "".join(f"{condition:>8}" for condition in CONDITIONS),
    ]
    for label, results in found.items():
        cells = "".join(f"{value:>8}" for value in aurocs(results.mean))
        lines.append(f"{label:<{width}}{cells}  {results.verdict}")
    certified = {label: certified_words(results) for label, results in found.items()}
    lines += [f"{label}: {words}" for label, words in certified.items() if words]
    return "\n".join(lines)


def _comparable(evaluations: Sequence[Evaluation]) -> dict[str, Results]:
    """Results by label: the detector's name, with its path where names are not unique."""
    if not evaluations:
        raise UserError("comparison: no evaluation given; name at least one detector")
    every = [evaluation.results for evaluation in evaluations]
    for results in every[1:]:
        _require_same(every[0], results)
    names = [results.detector.name for results in every]
    labels = [
        name if names.count(name) == 1 else f"{name} ({results.detector.path})"
        for name, results in zip(names, every, strict=True)
    ]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"comparison: {twice[0]} is given twice; name each detector once")
    return dict(zip(labels, every, strict=True))


def _require_same(first: Results, other: Results) -> None:
    parts: dict[str, Callable[[Results], Any]] = {
        "image sets": lambda results: (results.id, _sizes(results), results.mean_over),
        "norm or epsilon": lambda results: (results.attack.norm, results.attack.epsilon),
    }
    for what, part in parts.items():
        if part(first) != part(other):
            names = f"{first.detector.name} and {other.detector.name}"
            raise UserError(f"comparison: {names} differ in {what}; evaluate both with one config")


def _sizes(results: Results) -> dict[str, int]:
    return {name: item.images for name, item in results.datasets.items()}


def _summary(every: Sequence[Results]) -> dict[str, Any]:
    """What `comparison.json` holds; its `attack` is what the attacks of all detectors share."""
    found = [results.to_json() for results in every]
    shared = {
        key: value
        for key, value in found[0]["attack"].items()
        if all(results["attack"][key] == value for results in found)
    }
    keys = ("mean", "mean_near", "verdict", "threshold", "attack", "stronger", "curves")
    detectors = [
        {key: results["detector"][key] for key in ("name", "kind", "path")}
        | {key: results[key] for key in (*keys, "certificate", "left_out") if results[key]}
        for results in found
    ]
    return {"schema": 1, "attack": shared, "detectors": detectors}

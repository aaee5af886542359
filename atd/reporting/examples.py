"""The picture of the images that an attack fooled a detector with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from atd.evaluation.jobs import ScoredSet
from atd.reporting.drawing import footer, grid, show_image
from atd.reporting.wording import basis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from atd.evaluation.protocol import Evaluation

__all__ = ["example_figure"]

_EACH = 4
"""Images shown of each side."""

Pixels = np.ndarray[Any, np.dtype[np.float32]]


def example_figure(evaluation: Evaluation) -> Figure:
    """The worst images, what the attacker added (magnified), and the result, with scores."""
    shown = _worst({evaluation.id_test.name: evaluation.id_test}) + _worst(evaluation.ood)
    pairs = [_images(scored, number) for _, scored, number in shown]
    largest = max(float(np.abs(attacked - image).max()) for image, attacked in pairs)
    gain = 0.5 / largest if largest else 1.0
    threshold = float(evaluation.results.threshold.value)
    figure, axes = grid(3, len(shown), width=1.25, height=1.42)
    for column, (name, scored, number), (image, attacked) in zip(axes.T, shown, pairs, strict=True):
        index = scored.example_index[number]
        title = f"{'ID' if scored.direction > 0 else 'OOD'}: {name[:15]}"
        show_image(column[0], image, f"{title}\n{_judged(scored.clean[index], threshold)}")
        show_image(column[1], ((attacked - image) * gain + 0.5).clip(0, 1), "")
        show_image(column[2], attacked, _judged(scored.attacked[index], threshold))
    for row, label in zip(axes, ("image", f"change x {gain:.3g}", "attacked"), strict=True):
        row[0].set_ylabel(label)
    footer(figure, f"{evaluation.results.detector.name}. {basis(evaluation.results)}")
    return figure


def _worst(sets: Mapping[str, ScoredSet]) -> list[tuple[str, ScoredSet, int]]:
    """The worst kept image of each set, then the second worst of each, and so on."""
    ranked = []
    for name, scored in sets.items():
        harm = scored.direction * scored.attacked[scored.example_index]
        for rank, number in enumerate(np.argsort(-harm, kind="stable")):
            ranked.append(((rank, -float(harm[number])), (name, scored, int(number))))
    ranked.sort(key=lambda entry: entry[0])
    return [image for _, image in ranked[:_EACH]]


def _images(scored: ScoredSet, number: int) -> tuple[Pixels, Pixels]:
    return scored.example_clean[number].astype(np.float32) / 255.0, scored.example_attacked[number]


def _judged(score: float, threshold: float) -> str:
    return f"{score:.3g}, {'flagged' if score > threshold else 'accepted'}"

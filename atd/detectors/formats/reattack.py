"""Attacks on a file whose scores are not the detector's own: what rounding cost under attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from atd.attacks import Objective, pgd, square, straight_through
from atd.attacks.starts import square_draws
from atd.detectors.formats.traced import Run
from atd.inference import as_float
from atd.metrics import auroc, auroc_interval

__all__ = ["PASSES", "Sides", "attack_facts", "judged", "recorded_levels"]

_USUAL, _STEPS, _QUERIES = 8, 10, 100
_PART = 50  # images attacked together
PASSES = 4 * _STEPS + _QUERIES
"""Passes through a network that an image costs, about."""


def attack_facts(levels: int) -> dict[str, Any]:
    """The attack in words, by a radius of so many grey levels of 255."""
    return {
        "norm": "linf",
        "epsilon": f"{levels}/255",
        "members": [
            f"PGD, {_STEPS} steps along the float32 detector's gradient, of which the step with "
            "the worst score of the file under attack counts (arXiv:1802.00420)",
            f"Square, {_QUERIES} queries of the file under attack (arXiv:1912.00049)",
        ],
        "note": "each image takes its worse attack; the gradient of a rounded network is not "
        "known, so what is shown for one is the least that an attacker achieves",
    }


def recorded_levels(training: Mapping[str, Any]) -> int:
    """Whole grey levels in the radius that a detector was evaluated with; 8 where none is known.

    Args:
        training: The detector's record of its options, which anyone may have written.
    """
    groups = (training.get(name) for name in ("evaluate", "atd"))
    evaluated, trained = (group if isinstance(group, Mapping) else {} for group in groups)
    if evaluated.get("norm", "linf") != "linf":
        return _USUAL
    radii = (evaluated.get("epsilon"), trained.get("epsilon"), _USUAL / 255)
    radius = next(item for item in radii if isinstance(item, float) and 1 / 255 <= item <= 1)
    return int(255 * radius + 1e-6)


@dataclass(frozen=True, eq=False)
class Sides:
    """uint8 images (N, C, H, W) of both sides."""

    inside: Tensor
    outside: Tensor


def judged(
    run: Run,
    slope: Objective | None,
    sides: Sides,
    levels: int,
    threshold: float | None,
    what: str,
) -> dict[str, Any]:
    """How a file decides, clean and with both sides attacked.

    Args:
        run: uint8 images to scores (N,).
        slope: Float images in [0, 1] to what the gradient is taken of; None has none.
        sides: The images.
        levels: The attack's radius in grey levels of 255.
        threshold: Above it images are called OOD; None where none was set.
        what: What the bar calls it.

    Returns:
        `clean` and `both`, each with `auroc` and `auroc_ci`, and with the shares of ID and of OOD
        images that are called ID, `id_called_id` and `ood_called_id`, where there is a threshold.
    """
    radius = levels / 255
    clean = [_scores(run, images) for images in (sides.inside, sides.outside)]
    bar = tqdm(total=len(sides.inside) + len(sides.outside), desc=what, delay=1, disable=None)
    with bar:
        worst = [
            _attacked(run, slope, sides.inside, 1, radius, bar),
            _attacked(run, slope, sides.outside, -1, radius, bar),
        ]
    return {
        name: {
            "auroc": auroc(*scores),
            "auroc_ci": auroc_interval(*scores),
            **({} if threshold is None else _called_id(scores, threshold)),
        }
        for name, scores in (("clean", clean), ("both", worst))
    }


def _called_id(scores: Sequence[Any], threshold: float) -> dict[str, float]:
    inside, outside = (float((side <= threshold).mean()) for side in scores)
    return {"id_called_id": inside, "ood_called_id": outside}


def _scores(run: Run, images: Tensor) -> Any:
    with torch.no_grad():
        return torch.cat([run(part) for part in images.split(_PART)]).numpy()


def _attacked(
    run: Run, slope: Objective | None, images: Tensor, sign: int, radius: float, bar: tqdm[Any]
) -> Any:
    """The worst scores that are found (N,), the highest where the sign is 1."""

    def seen(moved: Tensor) -> Tensor:
        return sign * run((moved * 255).round().to(torch.uint8))

    worst = []
    for start in range(0, len(images), _PART):
        part = as_float(images[start : start + _PART])
        rows = torch.arange(start, start + len(part))
        worst.append(sign * _worst(seen, slope and _signed(slope, sign), part, radius, rows))
        bar.update(len(part))
    return torch.cat(worst).numpy()


def _signed(slope: Objective, sign: int) -> Callable[[Tensor], Tensor]:
    return lambda images: sign * slope(images)


def _worst(
    seen: Objective, slope: Objective | None, images: Tensor, epsilon: float, rows: Tensor
) -> Tensor:
    draws, stripes = square_draws(images, rows, 0, 0, _QUERIES)
    values = square(seen, images, epsilon=epsilon, draws=draws, stripes=stripes).values
    if slope is not None:
        followed = straight_through(seen, slope)
        found = pgd(followed, images, epsilon=epsilon, steps=_STEPS)
        values = torch.maximum(values, found.values)
    with torch.no_grad():
        return torch.maximum(values, seen(images))

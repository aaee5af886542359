"""The certified AUROC: a number that no attack within an L2 ball can take away.

It is that of the smoothed score (`atd.evaluation.smoothing`) when every ID image is moved so that
its score rises and every OOD image so that it falls, each by any perturbation up to the radius:
ID images count with their upper bounds, OOD images with their lower ones. An image without a bound
loses every comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from statistics import fmean

import numpy as np

from atd.detectors.base import Detector
from atd.evaluation.certified import Attempt, Certificate, CertifiedAuroc
from atd.evaluation.noisy import Noise, NoisyJob, noisy_scores
from atd.evaluation.rounds import ImageSets
from atd.evaluation.settings import Settings
from atd.evaluation.smoothing import Smoothing
from atd.evaluation.subset import Sides
from atd.metrics import Array, auroc

__all__ = ["certificate_passes", "certify"]

_FEW = 200
"""Draws behind the smoothed scores of attacked images."""

Tick = Callable[[int], None]


def certificate_passes(smoothing: Smoothing, sets: ImageSets, probed: int) -> int:
    """Passes through the detector that a certificate takes, forward and backward."""
    inside, outside = len(sets.id_test), sum(map(len, sets.ood_test.values()))
    attacked = min(probed, inside) + min(probed, outside)
    each = Noise(sigma=smoothing.sigma, draws=_FEW, radius=1.0).passes
    return (inside + outside) * smoothing.draws + attacked * each * (len(smoothing.at) - 1)


def certify(
    detector: Detector,
    sets: ImageSets,
    averaged: Sequence[str],
    sides: Sides,
    smoothing: Smoothing,
    settings: Settings,
    tick: Tick,
) -> Certificate:
    """Bounds the AUROC of a detector's smoothed score under every attack within L2 balls.

    Args:
        detector: The detector, of any kind; the score of an image must be a function of that image
            alone.
        sets: The image sets.
        averaged: The OOD sets that means are taken over.
        sides: A few images of either side, to be attacked.
        smoothing: How scores are smoothed and what is claimed.
        settings: Seed, device, batch size, processes and cache.
        tick: Called with the passes through the detector that are done.

    Returns:
        The certificate.
    """
    noise = Noise(sigma=smoothing.sigma, draws=smoothing.draws)
    jobs = [NoisyJob(sets.id_test, 1), *(NoisyJob(item, -1) for item in sets.ood_test.values())]
    inside, *found = noisy_scores(detector, jobs, noise, settings, tick)
    outside = dict(zip(sets.ood_test, found, strict=True))
    images = sum(map(len, (inside, *found)))
    above = smoothing.upper_bounds(inside, images)
    below = {name: -smoothing.upper_bounds(-scores, images) for name, scores in outside.items()}
    elements = detector.config.channels * detector.config.image_size**2
    linf = [radius / math.sqrt(elements) for radius in smoothing.at]
    datasets = {name: _points(smoothing.at, linf, above, bounds) for name, bounds in below.items()}
    # As arrays: a tensor of one position would be taken for a plain number.
    few_above = above[:, sides.inside_at.numpy()]
    few_below = [
        below[name][:, at.numpy()] for name, at in zip(averaged, sides.outside_at, strict=True)
    ]
    attempts = [
        Attempt(
            radius,
            _attacked(detector, sides, radius, smoothing, settings, tick),
            _auroc(few_above[row], np.concatenate(few_below, axis=1)[row]),
        )
        for row, radius in enumerate(smoothing.at)
        if radius
    ]
    return Certificate(
        norm="l2",
        sigma=smoothing.sigma,
        draws=smoothing.draws,
        confidence=smoothing.confidence,
        error=smoothing.error(images),
        images=images,
        smoothed=fmean([_smoothed(inside, outside[name]) for name in averaged]),
        mean=_mean_points([datasets[name] for name in averaged]),
        datasets=datasets,
        attack=noise.attack,
        attacked=max(len(sides.inside), len(sides.outside)),
        attempts=attempts,
    )


def _points(
    radii: Sequence[float], linf: Sequence[float], above: Array, below: Array
) -> list[CertifiedAuroc]:
    """What bounds (R, N) of ID images and (R, M) of OOD images say, the first those of radius 0."""
    return [
        CertifiedAuroc(
            radius=radius,
            linf=pixels,
            in_=_auroc(high, below[0]),
            out=_auroc(above[0], low),
            both=_auroc(high, low),
            abstained=float(np.isinf(np.concatenate([high, low])).mean()),
        )
        for radius, pixels, high, low in zip(radii, linf, above, below, strict=True)
    ]


def _auroc(high: Array, low: Array) -> float:
    """AUROC of bounds; one that is infinite loses: it lies beyond all others."""
    most = np.finfo(np.float64).max
    return auroc(*(np.nan_to_num(side, posinf=most, neginf=-most) for side in (high, low)))


def _smoothed(inside: Array, outside: Array) -> float:
    """AUROC of the medians of noisy scores (N, draws) and (M, draws)."""
    return _auroc(*(np.median(scores, axis=1).astype(np.float64) for scores in (inside, outside)))


def _attacked(
    detector: Detector,
    sides: Sides,
    radius: float,
    smoothing: Smoothing,
    settings: Settings,
    tick: Tick,
) -> float:
    """The smoothed score's AUROC on a few images of either side, attacked within a ball."""
    noise = Noise(sigma=smoothing.sigma, draws=_FEW, radius=radius)
    jobs = [NoisyJob(sides.inside, 1), NoisyJob(sides.outside, -1)]
    return _smoothed(*noisy_scores(detector, jobs, noise, settings, tick))


def _mean_points(sets: Sequence[list[CertifiedAuroc]]) -> list[CertifiedAuroc]:
    names = [item.name for item in fields(CertifiedAuroc)]
    return [
        CertifiedAuroc(**{name: fmean([getattr(point, name) for point in at]) for name in names})
        for at in zip(*sets, strict=True)
    ]

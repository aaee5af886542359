"""How well scores tell OOD from ID images; larger scores mean more likely OOD.

All numbers are computed in float64 from the scores of whole sets, and equal scores are counted
exactly (half a win each in the AUROC). Two conventions of FPR95 are in use, so both are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from atd.errors import UserError

__all__ = [
    "CONDITIONS",
    "METRICS",
    "Array",
    "MeanMetrics",
    "Metrics",
    "auroc",
    "auroc_interval",
    "mean_auroc_interval",
    "mean_metrics",
    "metrics",
    "threshold_at",
]

Array = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]

_AT_ONCE = 1_000_000
"""Scores that are resampled together."""

CONDITIONS = {
    "clean": "nothing attacked",
    "in": "ID images attacked",
    "out": "OOD images attacked",
    "both": "all images attacked",
}
"""What is attacked when a pair of sets is judged; in the order of every table."""

METRICS = ("auroc", "fpr95_id", "fpr95_ood", "aupr_in", "aupr_out", "detection_error")
"""The single numbers in what `metrics` returns; `auroc_ci` comes on top."""


class MeanMetrics(TypedDict):
    """The single numbers, shares from 0 to 1; of one pair of sets, or means over several."""

    auroc: float
    fpr95_id: float
    fpr95_ood: float
    aupr_in: float
    aupr_out: float
    detection_error: float


class Metrics(MeanMetrics):
    """The single numbers of one pair of sets and the interval of the AUROC."""

    auroc_ci: list[float]


def metrics(
    id_scores: npt.ArrayLike, ood_scores: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> Metrics:
    """Every detection metric of a pair of score sets.

    Args:
        id_scores: Scores (N,) of in-distribution images.
        ood_scores: Scores (M,) of OOD images; larger = more likely OOD.
        resamples: Bootstrap resamples behind the confidence interval.
        seed: Seed of the resampling.

    Returns:
        `auroc`: probability that an OOD image scores above an ID image, ties counted half.
        `auroc_ci`: its 95 % bootstrap interval, [low, high].
        `fpr95_id`: share of OOD accepted when 95 % of ID is accepted (ID positive: ODIN, ATOM).
        `fpr95_ood`: share of ID flagged when 95 % of OOD is flagged (OOD positive: OpenOOD).
        `aupr_in`, `aupr_out`: area under precision-recall with ID or OOD as the positive class,
        by the trapezoidal rule.
        `detection_error`: min over thresholds of (FPR + FNR) / 2.

    Raises:
        UserError: A side is empty or holds a value that is not finite.
    """
    from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

    inside, outside = _checked(id_scores, "ID"), _checked(ood_scores, "OOD")
    scores = np.concatenate([inside, outside])
    is_ood = np.concatenate([np.zeros(len(inside)), np.ones(len(outside))])
    flagged_id, flagged_ood, _ = roc_curve(is_ood, scores, drop_intermediate=False)
    accepted_ood, accepted_id, _ = roc_curve(1 - is_ood, -scores, drop_intermediate=False)
    precision_out, recall_out, _ = precision_recall_curve(is_ood, scores)
    precision_in, recall_in, _ = precision_recall_curve(1 - is_ood, -scores)
    return {
        "auroc": float(roc_auc_score(is_ood, scores)),
        "auroc_ci": auroc_interval(inside, outside, resamples=resamples, seed=seed),
        "fpr95_id": float(accepted_ood[np.argmax(accepted_id >= 0.95)]),
        "fpr95_ood": float(flagged_id[np.argmax(flagged_ood >= 0.95)]),
        "aupr_in": float(auc(recall_in, precision_in)),
        "aupr_out": float(auc(recall_out, precision_out)),
        "detection_error": float(np.min((flagged_id + 1.0 - flagged_ood) / 2.0)),
    }


def auroc(id_scores: npt.ArrayLike, ood_scores: npt.ArrayLike) -> float:
    """The AUROC alone, for places that need nothing else (see `metrics`)."""
    inside, outside = _checked(id_scores, "ID"), _checked(ood_scores, "OOD")
    id_ranks, ood_ranks, size = _ranks(inside, outside)
    return float(_shares_won(id_ranks[None], ood_ranks[None], size)[0])


def auroc_interval(
    id_scores: npt.ArrayLike,
    ood_scores: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[float]:
    """Percentile bootstrap interval of the AUROC; both sides are resampled.

    Args:
        id_scores: Scores (N,) of in-distribution images.
        ood_scores: Scores (M,) of OOD images.
        level: Coverage of the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Returns:
        [low, high].
    """
    inside, outside = _checked(id_scores, "ID"), _checked(ood_scores, "OOD")
    id_ranks, ood_ranks, size = _ranks(inside, outside)
    generator = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < resamples:
        # As many at once as memory allows: numpy's calls cost more than a small set's resample.
        some = min(resamples - len(values), max(1, _AT_ONCE // (len(inside) + len(outside))))
        drawn = [(_draw(id_ranks, generator), _draw(ood_ranks, generator)) for _ in range(some)]
        id_drawn, ood_drawn = (np.stack(side) for side in zip(*drawn, strict=True))
        values += _shares_won(id_drawn, ood_drawn, size).tolist()
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def mean_auroc_interval(
    pairs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[float]:
    """Percentile bootstrap interval of the mean AUROC over several pairs of sets.

    Args:
        pairs: Scores (N,) of the same ID images in the same order, which are resampled alike in all
            pairs, and of some OOD images (M,), which are others in each pair.
        level: Coverage of the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Returns:
        [low, high].
    """
    sides = [(_checked(inside, "ID"), _checked(outside, "OOD")) for inside, outside in pairs]
    generator = np.random.default_rng(seed)
    count = len(sides[0][0])
    id_rows = generator.integers(count, size=(resamples, count))
    total = np.zeros(resamples)
    for inside, outside in sides:
        distinct, ranks = np.unique(np.concatenate([inside, outside]), return_inverse=True)
        ood_rows = count + generator.integers(len(outside), size=(resamples, len(outside)))
        total += _shares_won(ranks[id_rows], ranks[ood_rows], len(distinct))
    low, high = np.quantile(total / len(sides), [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def _ranks(inside: Array, outside: Array) -> tuple[Ranks, Ranks, int]:
    """Ascending ranks of either side's scores among the distinct ones, and how many these are."""
    distinct, ranks = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    return np.sort(ranks[: len(inside)]), np.sort(ranks[len(inside) :]), len(distinct)


def _draw(ranks: Ranks, generator: np.random.Generator) -> Ranks:
    return ranks[generator.integers(len(ranks), size=len(ranks))]


def _shares_won(inside: Ranks, outside: Ranks, size: int) -> Array:
    """The AUROC (R,) of each row of ranks below `size`: ID (R, N) against OOD (R, M)."""
    rows = np.arange(len(inside))[:, None]
    counts = np.bincount((rows * size + inside).ravel(), minlength=len(inside) * size)
    counts = counts.reshape(len(inside), size)
    below = np.cumsum(counts, axis=1) - 0.5 * counts
    won: Array = below[rows, outside].sum(axis=1) / (inside.shape[1] * outside.shape[1])
    return won


def threshold_at(id_scores: npt.ArrayLike, acceptance: float = 0.95) -> float:
    """The smallest score threshold that accepts at least a given share of ID images.

    An image is flagged as OOD when its score is *above* the threshold, so images that tie with
    it are accepted and the share is never missed.

    Args:
        id_scores: Clean scores (N,) of held-out ID images.
        acceptance: Share to accept, above 0 and at most 1.

    Returns:
        The threshold; one of the scores.

    Raises:
        UserError: No score, a score that is not finite, or an impossible share.
    """
    scores = np.sort(_checked(id_scores, "ID"))
    if not 0.0 < acceptance <= 1.0:
        raise UserError(f"acceptance={acceptance}: it must be above 0 and at most 1")
    # 0.95 * 20 may come out as 19.000000000000004, which must not ask for a 20th image.
    accepted = math.ceil(acceptance * len(scores) - 1e-9)
    return float(scores[accepted - 1])


def mean_metrics(items: Sequence[MeanMetrics]) -> MeanMetrics:
    """The plain mean of each single-number metric over one or more data sets."""
    return MeanMetrics(
        auroc=fmean([item["auroc"] for item in items]),
        fpr95_id=fmean([item["fpr95_id"] for item in items]),
        fpr95_ood=fmean([item["fpr95_ood"] for item in items]),
        aupr_in=fmean([item["aupr_in"] for item in items]),
        aupr_out=fmean([item["aupr_out"] for item in items]),
        detection_error=fmean([item["detection_error"] for item in items]),
    )


def _checked(scores: npt.ArrayLike, side: str) -> Array:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise UserError(f"{side} scores are empty: every set needs at least one image")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise UserError(f"{side} scores: {bad} of {values.size} are not finite (NaN or infinite)")
    return values

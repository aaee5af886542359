"""How well scores tell OOD from ID images; larger scores mean more likely OOD.

All numbers are computed in float64 from the scores of whole sets, and equal scores are counted
exactly (half a win each in the AUROC). Two conventions of FPR95 are in use, so both are given.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from atd.errors import UserError

__all__ = ["METRICS", "Array", "auroc", "auroc_interval", "mean_metrics", "metrics", "threshold_at"]

Array = npt.NDArray[np.float64]

METRICS = ("auroc", "fpr95_id", "fpr95_ood", "aupr_in", "aupr_out", "detection_error")
"""The single numbers in what `metrics` returns; `auroc_ci` comes on top."""


def metrics(
    id_scores: npt.ArrayLike, ood_scores: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> dict[str, float | list[float]]:
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
    id_counts, ood_counts = _counts(inside, outside)
    return float(_wins(id_counts, ood_counts))


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
    id_counts, ood_counts = _counts(inside, outside)
    generator = np.random.default_rng(seed)
    values = [
        _wins(_resample(id_counts, generator), _resample(ood_counts, generator))
        for _ in range(resamples)
    ]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def _counts(inside: Array, outside: Array) -> tuple[Array, Array]:
    """How often each distinct score occurs on either side; sorted once for all resamples."""
    distinct, position = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    size = len(distinct)
    id_counts = np.bincount(position[: len(inside)], minlength=size).astype(np.float64)
    ood_counts = np.bincount(position[len(inside) :], minlength=size).astype(np.float64)
    return id_counts, ood_counts


def _resample(counts: Array, generator: np.random.Generator) -> Array:
    total = int(counts.sum())
    values = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
    drawn = values[generator.integers(total, size=total)]
    return np.bincount(drawn, minlength=len(counts)).astype(np.float64)


def _wins(id_counts: Array, ood_counts: Array) -> float:
    below = np.cumsum(id_counts) - 0.5 * id_counts
    return float(ood_counts @ below / (id_counts.sum() * ood_counts.sum()))


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


def mean_metrics(items: list[dict[str, float | list[float]]]) -> dict[str, float]:
    """The plain mean of each single-number metric over data sets."""
    return {
        key: math.fsum(float(item[key]) for item in items) / len(items)  # type: ignore[arg-type]
        for key in METRICS
        if items
    }


def _checked(scores: npt.ArrayLike, side: str) -> Array:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise UserError(f"{side} scores are empty: every set needs at least one image")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise UserError(f"{side} scores: {bad} of {values.size} are not finite (NaN or infinite)")
    return values

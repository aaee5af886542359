"""Card and report of a detector whose threshold was set anew: never stale in silence."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.cache import fingerprint
from atd.evaluation.jobs import ScoredSet
from atd.evaluation.protocol import Evaluation
from atd.evaluation.results import Threshold, read_results
from atd.evaluation.stops import stops
from atd.metrics import Array
from atd.reporting.markdown import escaped
from atd.reporting.report import rewrite_at_threshold
from atd.run_folder import RunFolder

__all__ = ["followed", "marked_card", "report_of", "update_report"]

_MARK = re.compile(r"<!-- threshold -->.*?<!-- /threshold -->\n+", re.S)
_DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def report_of(folder: Path, detector: Detector) -> Evaluation | str:
    """The report beside a detector's folder, with its scores, or why there is none to follow.

    Args:
        folder: The detector's folder.
        detector: The detector in it.
    """
    report = folder.resolve().parent / "report"
    try:
        results = read_results(report / "results.json")
    except UserError:
        return "there is no report beside the detector"
    if results.detector.sha256 != fingerprint(detector):
        return "the report beside it tells of another detector, or of other code"
    try:
        with np.load(report / "scores.npz", allow_pickle=False) as stored:
            scores = dict(stored)
        id_test = _scored(results.id.name, 1, scores, "id_test")
        ood = {name: _scored(name, -1, scores, name) for name in results.datasets}
        id_val = _checked(scores["id_val/clean"])
    except _DAMAGE:
        return "the scores of the report beside it cannot be read"
    return Evaluation(results, id_test, ood, id_val)


def _scored(name: str, direction: int, scores: Mapping[str, Array], key: str) -> ScoredSet:
    """A set with its scores and nothing else: pictures of thresholds need no more."""
    none = np.zeros(0, dtype=bool)
    clean, attacked = _checked(scores[f"{key}/clean"]), _checked(scores[f"{key}/attacked"])
    if not len(clean) or clean.shape != attacked.shape:
        raise ValueError(key)
    index, pixels = np.zeros(0, dtype=np.int64), np.zeros((0, 1, 1, 1))
    return ScoredSet(
        name=name,
        direction=direction,
        members=(),
        clean=clean,
        attacked=attacked,
        zero_gradient=none,
        broken=none,
        member=none.astype(np.int8),
        example_index=index,
        example_clean=pixels.astype(np.uint8),
        example_attacked=pixels.astype(np.float32),
    )


def _checked(scores: Array) -> Array:
    if scores.ndim != 1 or scores.dtype.kind != "f" or not np.isfinite(scores).all():
        raise ValueError("no scores")
    return scores.astype(np.float64)


def followed(evaluation: Evaluation, threshold: float, note: str) -> Evaluation | str:
    """The evaluation at another threshold, or why its scores do not tell.

    Args:
        evaluation: What a report holds.
        threshold: The new threshold.
        note: How it was set.
    """
    results = evaluation.results
    had = results.threshold.value
    if results.threshold.evaluated is not None:
        had = results.threshold.evaluated
    inside, outside = evaluation.id_test, list(evaluation.ood.values())
    above, below = stops(inside.clean, np.concatenate([s.clean for s in outside]), had)
    if not below <= threshold <= above:
        return "the report's attacks stopped where they could not matter to the former threshold"
    averaged = [evaluation.ood[name] for name in results.mean_over]
    clean, attacked = (
        np.concatenate([getattr(scored, side) for scored in averaged])
        for side in ("clean", "attacked")
    )
    new = Threshold(
        value=threshold,
        tpr_clean=float((inside.clean <= threshold).mean()),
        tpr_attacked=float((inside.attacked <= threshold).mean()),
        fpr_clean=float((clean <= threshold).mean()),
        fpr_attacked=float((attacked <= threshold).mean()),
        note=note,
        evaluated=had,
    )
    return replace(evaluation, results=replace(results, threshold=new))


def marked_card(card: str, threshold: float, note: str, former: float | None, why: str) -> str:
    """A card that says, below its title, that its numbers are those of a former threshold."""
    was = "there was none" if former is None else f"{former:.5g} until then"
    mark = (
        f"<!-- threshold -->\n> **The threshold was set anew, to {threshold:.5g}** ({was}): "
        f"{escaped(note)}. What is said below of images that pass or slip through at a threshold "
        f"belongs to the former one ({why}); `evaluate.py` finds it anew.\n<!-- /threshold -->\n\n"
    )
    card = _MARK.sub("", card)
    title = re.search(r"^# .*\n+", card, re.M)
    end = title.end() if title else 0
    return card[:end] + mark + card[end:]


def update_report(folder: Path, evaluation: Evaluation) -> Path:
    """Brings the report beside a detector up to date.

    Args:
        folder: The detector's folder.
        evaluation: The evaluation at the new threshold.

    Returns:
        The report's folder.

    Raises:
        OSError: It cannot be written.
    """
    run = RunFolder(folder.resolve().parent)
    whole = run.report_is_whole
    rewrite_at_threshold(evaluation, run.report)
    if whole:
        run.note_report()
    return run.report

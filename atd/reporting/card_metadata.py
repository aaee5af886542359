"""What the Hub reads of a model card: its YAML head, with the numbers as a model index."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from atd.errors import printable
from atd.evaluation.results import Results
from atd.metrics import CONDITIONS
from atd.reporting.wording import attack_words, stronger_words

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

__all__ = ["card_metadata"]

_TASK = "out-of-distribution-detection"
_METRICS: dict[Literal["auroc", "fpr95_id"], tuple[str, str]] = {
    "auroc": ("roc_auc", "AUROC"),
    "fpr95_id": ("fpr95", "FPR at 95 % TPR"),
}
"""Of our metrics what the Hub calls them, and people."""
_ATTACKED = {
    "clean": "no attack",
    "in": "ID images attacked",
    "out": "OOD images attacked",
    "both": "ID and OOD images attacked",
}


def card_metadata(results: Results) -> str:
    """The head of a model card, between its two lines of dashes.

    Every number under attack names the attack with norm, radius, steps and restarts, and the
    verdict of the attack's checks.

    Args:
        results: The results of an evaluation.

    Returns:
        YAML.
    """
    from huggingface_hub import ModelCardData

    kind = results.detector.kind
    data = ModelCardData(
        library_name="atd",
        tags=[_TASK, "adversarial-robustness", "image-anomaly-detection", "pytorch", kind],
        metrics=["roc_auc"],
        model_name=printable(results.detector.name),
        eval_results=list(_numbers(results)),
    )
    text: str = data.to_yaml()
    return text


def _numbers(results: Results) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    basis = _basis(results)
    for name, found in results.datasets.items():
        for condition, (key, (kind, title)) in itertools.product(CONDITIONS, _METRICS.items()):
            words = f"{title}, {_ATTACKED[condition]}"
            if condition != "clean":
                words += f" ({attack_words(results.attack)})"
            yield EvalResult(
                task_type=_TASK,
                task_name="Out-of-distribution detection",
                dataset_type=_slug(f"{results.id.name}-{name}"),
                dataset_name=printable(f"{results.id.name} (ID) and {name} ({found.role} OOD)"),
                metric_type=kind,
                metric_name=words,
                metric_value=round(float(found[condition][key]), 6),
                metric_args=None if condition == "clean" else basis,
            )


def _basis(results: Results) -> dict[str, Any]:
    """What a number under attack is read with."""
    attack = results.attack
    basis = {
        "attack": ", ".join(attack.members),
        "norm": attack.norm,
        "epsilon": attack.epsilon,
        "steps": attack.steps,
        "restarts": attack.restarts,
        "checks": results.verdict,
    }
    stronger = stronger_words(results)
    return {**basis, "stronger": stronger} if stronger else basis


def _slug(text: str) -> str:
    """A name as the Hub takes it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "images"

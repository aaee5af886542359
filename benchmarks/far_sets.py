"""Mean AUROC over the far sets: the evaluation proper, less its checks and baselines."""

from __future__ import annotations

import statistics
from typing import Any

from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.evaluation.results import AttackFacts
from atd.evaluation.settings import settings_from
from atd.metrics import CONDITIONS, auroc
from atd.reporting.wording import attack_words

__all__ = ["judge_far_sets", "words_of"]


def judge_far_sets(detector: Detector, splits: DataSplits, config: Config) -> dict[str, Any]:
    """Judges a detector on a CPU.

    Args:
        detector: What is judged.
        splits: The image sets.
        config: Attack, limit and seed.

    Returns:
        `mean` over the far sets by condition, `sets` with AUROC under each condition, `attack`.
    """
    settings = settings_from(config, progress=False)
    attack = settings.attack()
    sets = EvaluationSets.of(splits).limited(config.evaluate.limit, config.run.seed)
    inside = settings.score(detector, sets.id_test, 1, attack)
    found = {}
    for name, images in sets.ood_test.items():
        outside = settings.score(detector, images, -1, attack)
        id_side = (inside.clean, inside.attacked, inside.clean, inside.attacked)
        ood_side = (outside.clean, outside.clean, outside.attacked, outside.attacked)
        found[name] = [auroc(one, other) for one, other in zip(id_side, ood_side, strict=True)]
    far = [found[name] for name in found if sets.roles[name] == "far"]
    means = [statistics.mean(column) for column in zip(*far, strict=True)]
    return {
        "mean": dict(zip(CONDITIONS, means, strict=True)),
        "sets": found,
        "attack": {
            "tier": settings.tier.name,
            "epsilon": settings.epsilon,
            "steps": settings.tier.steps,
            "restarts": settings.tier.restarts,
            "norm": settings.norm,
            "members": [str(member) for member in attack.members],
        },
    }


def words_of(run: dict[str, Any]) -> str:
    """The attack of what `judge_far_sets` found, in one phrase."""
    return attack_words(AttackFacts(**{"tier": "custom", **run["attack"]}))

"""Mean AUROC over the far sets: the evaluation proper, less its checks and baselines."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.evaluation.judgement import averaged_sets
from atd.evaluation.results import AttackFacts
from atd.evaluation.rounds import Rounds, attack_rounds
from atd.evaluation.settings import Settings, settings_from
from atd.metrics import CONDITIONS, Array, auroc
from atd.reporting.wording import attack_words
from atd.training.processes import Processes

__all__ = [
    "ATTACKS",
    "attack_facts",
    "conditions",
    "judge_far_sets",
    "limited_sets",
    "settings_at",
    "words_of",
]

Pair = tuple[Array, Array]

ATTACKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "smoke": ({"tier": "smoke", "steps": 2}, {"tier": "standard", "steps": 2}),
    "small": ({"tier": "paper"}, {"tier": "standard"}),
    "paper": ({"tier": "paper"}, {"tier": "strong"}),
}
"""By scale the options of the paper's attack (scale smoke: a shorter one) and of a stronger one."""


def settings_at(config: Config, processes: Processes, **options: Any) -> Settings:
    """The settings of an evaluation.

    Args:
        config: All options.
        processes: Where it runs.
        **options: Options of `evaluate` in place of the config's, such as `tier`.
    """
    evaluate = dataclasses.replace(config.evaluate, **options)
    return settings_from(
        dataclasses.replace(config, evaluate=evaluate),
        device=processes.device,
        accelerator=processes.accelerator,
        progress=False,
    )


def limited_sets(splits: DataSplits, config: Config) -> EvaluationSets:
    """The sets that are judged."""
    return EvaluationSets.of(splits).limited(config.evaluate.limit, config.run.seed)


def judge_far_sets(
    detector: Detector,
    sets: EvaluationSets,
    settings: Settings,
    sources: Sequence[Detector] = (),
) -> dict[str, Any]:
    """Judges a detector.

    Args:
        detector: What is judged.
        sets: The image sets.
        settings: Attack and execution.
        sources: Other detectors, for the transfer attack.

    Returns:
        `mean` over the far sets by condition, `sets` with AUROC under each condition, `attack`.
    """
    rounds = attack_rounds(detector, sets, settings, sources, lambda passes: None)
    found = {name: list(conditions(*_sides(rounds, name)).values()) for name in rounds.ood}
    far = [found[name] for name in averaged_sets(sets)]
    means = [statistics.mean(column) for column in zip(*far, strict=True)]
    return {
        "mean": dict(zip(CONDITIONS, means, strict=True)),
        "sets": found,
        "attack": attack_facts(settings),
    }


def attack_facts(settings: Settings) -> dict[str, Any]:
    """The attack of some settings, as JSON."""
    return {
        "tier": settings.tier.name,
        "epsilon": settings.epsilon,
        "steps": settings.tier.steps,
        "restarts": settings.tier.restarts,
        "norm": settings.norm,
        "members": [str(member) for member in settings.tier.members],
    }


def _sides(rounds: Rounds, name: str) -> tuple[Pair, Pair]:
    inside, outside = rounds.id_test, rounds.ood[name]
    return (inside.clean, inside.attacked), (outside.clean, outside.attacked)


def conditions(inside: Pair, outside: Pair) -> dict[str, float]:
    """AUROC under each condition.

    Args:
        inside: Scores (N,) of ID images, clean and attacked.
        outside: Scores (M,) of OOD images, likewise.
    """
    values = [auroc(inside[i], outside[o]) for i, o in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return dict(zip(CONDITIONS, values, strict=True))


def words_of(run: dict[str, Any]) -> str:
    """The attack of what `judge_far_sets` found, in one phrase."""
    return attack_words(AttackFacts(**{"tier": "custom", **run["attack"]}))

"""The evaluation of a detector and its baselines: all in one way, written down as results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from atd.attacks.suite import Means
from atd.config import Config
from atd.detectors.base import Detector
from atd.detectors.config import UNSET
from atd.errors import UserError
from atd.evaluation.cache import fingerprint
from atd.evaluation.certificate import certificate_passes, certify
from atd.evaluation.certificate_cost import cost_words
from atd.evaluation.certified import Certificate
from atd.evaluation.jobs import ScoredSet
from atd.evaluation.judgement import PROBED, Judgement, Splits, judge_detector
from atd.evaluation.probes import PROBE_PASSES
from atd.evaluation.progress import progress_bar
from atd.evaluation.results import (
    AttackFacts,
    DetectorFacts,
    IdFacts,
    Passes,
    Provenance,
    Results,
)
from atd.evaluation.settings import Settings
from atd.evaluation.subset import Sides
from atd.metrics import Array
from atd.provenance import provenance

__all__ = ["Evaluation", "Splits", "attack_facts", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        results: The results, schema 1.
        id_test: Scores of the ID test images.
        ood: Scores of each OOD test set.
        id_val: Clean scores (N,) of the held-out ID images; empty where there are none.
    """

    results: Results
    id_test: ScoredSet
    ood: dict[str, ScoredSet]
    id_val: Array = field(repr=False)


def evaluate(
    detector: Detector,
    splits: Splits,
    settings: Settings,
    *,
    name: str,
    path: str = "",
    baselines: Mapping[str, Detector] | None = None,
    sources: Mapping[str, Detector] | None = None,
    config: Config | None = None,
    left_out: Sequence[str] = (),
    command: str = "",
) -> Evaluation:
    """Judges a detector, clean and under attack, and its baselines in the same way.

    Args:
        detector: The detector, on the right device.
        splits: The image sets; limit them beforehand (`ImageSet.take`).
        settings: Attack and execution.
        name: The detector's name in tables.
        path: Where the detector lies, for the record.
        baselines: Other detectors, judged in the same way on the same sets.
        sources: Detectors that adversarial images are transferred from; the baselines are too.
        config: The run's options, for provenance.
        left_out: What was asked for and could not be done, with the reasons.
        command: What a person types to repeat this, for the record.

    Returns:
        Results and scores, equal on every process.

    Raises:
        UserError: No OOD test set or one that is called like the ID images, an empty set, scores
            that are not finite numbers or point the wrong way.
    """
    if not splits.ood_test:
        raise UserError(
            "data.ood_test: name at least one OOD test set to evaluate on, or set data.protocol"
        )
    if taken := sorted({"id_test", "id_val"} & splits.ood_test.keys()):
        raise UserError(f"OOD test set {taken[0]}: the ID images are called so; rename it")
    started = time.monotonic()
    baselines = baselines or {}
    others = tuple({**baselines, **(sources or {})}.values())
    own = detector.threshold
    if settings.smoothing is not None and settings.progress:
        print(cost_words(detector, splits, settings.smoothing, settings, PROBED), flush=True)
    with progress_bar(
        f"attacking {name}", _work(splits, settings, baselines), show=settings.progress
    ) as bar:
        found = judge_detector(detector, splits, settings, others, bar, threshold=own, name=name)
        plain = replace(settings, compiled=False)
        compared = {
            kind: judge_detector(module, splits, plain, _without(baselines, kind), bar)
            for kind, module in baselines.items()
        }
    certificate = _certificate(detector, splits, settings, found.averaged, name)
    missing = [*left_out, *_left_out(settings, splits, own, len(others))]
    seconds = time.monotonic() - started
    facts = Provenance(**provenance(config, seed=settings.seed, seconds=seconds), command=command)
    results = Results(
        schema=1,
        detector=DetectorFacts(
            name=name,
            kind=detector.kind,
            path=path,
            parameters=sum(p.numel() for p in detector.parameters()),
            sha256=fingerprint(detector),
        ),
        protocol=settings.protocol,
        attack=attack_facts(found.settings),
        id=IdFacts(name=splits.id_test.name, images=len(found.rounds.id_test.clean)),
        datasets=found.datasets,
        mean=found.mean,
        mean_near=found.mean_near,
        mean_over=tuple(found.averaged),
        threshold=replace(found.threshold, note=_threshold_note(detector, splits)),
        baselines={kind: judgement.baseline for kind, judgement in compared.items()},
        strongest=found.strongest,
        stronger=found.stronger,
        curves=found.curves,
        checks=found.checks,
        verdict=found.verdict,
        certificate=certificate,
        left_out=tuple(missing),
        provenance=facts,
    )
    return _evaluation(results, found)


def _threshold_note(detector: Detector, splits: Splits) -> str:
    """What the judged threshold does; empty where the ID test images stand in (`_left_out`)."""
    if detector.threshold is None:
        return "" if splits.id_val is None else "accepts 95 % of clean held-out ID images"
    note = detector.config.threshold_note
    return "is the detector's own" if note == UNSET else note


def _certificate(
    detector: Detector, splits: Splits, settings: Settings, averaged: Sequence[str], name: str
) -> Certificate | None:
    """What is certain, where it was asked for."""
    smoothing = settings.smoothing
    if smoothing is None:
        return None
    sides = Sides.of(splits.id_test, [splits.ood_test[key] for key in averaged], PROBED)
    total = certificate_passes(smoothing, splits, PROBED)
    with progress_bar(f"certifying {name}", total, show=settings.progress) as bar:
        return certify(detector, splits, averaged, sides, smoothing, settings, bar)


def _evaluation(results: Results, found: Judgement) -> Evaluation:
    rounds = found.rounds
    return Evaluation(results=results, id_test=rounds.id_test, ood=rounds.ood, id_val=rounds.id_val)


def _without(modules: Mapping[str, Detector], kind: str) -> tuple[Detector, ...]:
    return tuple(module for key, module in modules.items() if key != kind)


def _work(splits: Splits, settings: Settings, baselines: Mapping[str, Detector]) -> int:
    """Passes through detectors, roughly: what is done per image times the images."""
    images = len(splits.id_test) + sum(len(images) for images in splits.ood_test.values())
    each = images * settings.attack().passes + 2 * PROBED * PROBE_PASSES
    return each * (1 + len(baselines))


def attack_facts(settings: Settings) -> AttackFacts:
    """The attack of some settings, as results hold it."""
    forward, backward = settings.tier.passes
    return AttackFacts(
        tier=settings.tier.name,
        norm=settings.norm,
        epsilon=settings.epsilon,
        steps=settings.tier.steps,
        step_size=settings.step_size,
        restarts=settings.tier.restarts,
        members=tuple(map(str, settings.tier.members)),
        draws=settings.draws,
        passes=Passes(forward, backward),
    )


def _left_out(
    settings: Settings, splits: Splits, threshold: float | None, sources: int
) -> list[str]:
    """Attacks that could not be made, and what stood in for held-out ID images."""
    means = Means(settings.norm, features=True, sources=sources)
    lacking = {str(member): member.lacks(means) for member in settings.tier.members}
    found = [f"attack {name}: {reason}" for name, reason in lacking.items() if reason]
    if splits.id_val is None:
        stand_in = "the detector's own threshold is used"
        if threshold is None:
            stand_in = "the threshold is that of the ID test images themselves"
        found.append(f"held-out ID images: not given; {stand_in}")
    return found

"""What the scores of one detector say: metrics of every set, checks, verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch

from atd.compiled import compiled_logits
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.checks import (
    Check,
    gradients_present,
    scores_finite,
    verdict,
)
from atd.evaluation.consistency import consistency_checks, is_randomised
from atd.evaluation.jobs import ScoredSet
from atd.evaluation.probes import Probes
from atd.evaluation.results import (
    Baseline,
    Curves,
    Dataset,
    ImageCounts,
    Role,
    Stronger,
    Threshold,
)
from atd.evaluation.rounds import ImageSets, Rounds, Tick, attack_rounds
from atd.evaluation.scoring import full_precision
from atd.evaluation.settings import Settings
from atd.evaluation.subset import Sides
from atd.metrics import CONDITIONS, Array, MeanMetrics, auroc, auroc_interval, mean_metrics, metrics

__all__ = ["PROBED", "Judgement", "Splits", "averaged_sets", "judge_detector"]


class Splits(ImageSets, Protocol):
    """The image sets that are judged (`atd.data.splits.DataSplits` has them)."""

    @property
    def roles(self) -> Mapping[str, Literal["far", "near"]]:
        """`far` or `near` for each of them."""

    @property
    def selection(self) -> frozenset[str]:
        """Those of them that also chose the best epoch."""


PROBED = 64
"""Images of each side for the checks that attack, and half as many for those that do not."""

_REVERSED = 0.35
"""Below it, an AUROC of unattacked images tells of scores that are the wrong way round."""

_DRAWS = 20
"""Evaluations that are averaged when a detector turns out to be randomised (EOT)."""


@dataclass(frozen=True)
class Judgement:
    """What was found on one detector.

    Attributes:
        settings: Those that were used; more draws for a randomised detector.
        rounds: Scores of every set.
        checks: Signs that the numbers are too good to be true.
        datasets: Metrics of every OOD set.
        averaged: The sets that means are taken over.
        curves: AUROC against the strength of the attack.
        stronger: What the strongest attack of the checks found.
    """

    settings: Settings
    rounds: Rounds
    checks: dict[str, Check]
    datasets: dict[str, Dataset]
    averaged: list[str]
    curves: Curves
    stronger: Stronger

    @property
    def verdict(self) -> str:
        """One line: the numbers can be trusted, or which checks speak against it."""
        return verdict(self.checks)

    @property
    def mean(self) -> dict[str, MeanMetrics]:
        """Over the averaged sets, by condition."""
        return self._mean(self.averaged)

    @property
    def mean_near(self) -> dict[str, MeanMetrics]:
        """Over the near sets; empty where there is none."""
        return self._mean([name for name, item in self.datasets.items() if item.role == "near"])

    def _mean(self, names: Sequence[str]) -> dict[str, MeanMetrics]:
        if not names:
            return {}
        return {
            condition: mean_metrics([self.datasets[name][condition] for name in names])
            for condition in CONDITIONS
        }

    @property
    def baseline(self) -> Baseline:
        """What a report says of the detector where another one is judged."""
        return Baseline(self.mean, self.datasets, self.verdict)

    @property
    def threshold(self) -> Threshold:
        """Shares accepted (score <= threshold), clean and attacked."""
        value, inside = self.rounds.threshold, self.rounds.id_test
        clean = np.concatenate([self.rounds.ood[key].clean for key in self.averaged])
        attacked = np.concatenate([self.rounds.ood[key].attacked for key in self.averaged])
        return Threshold(
            value=value,
            tpr_clean=float((inside.clean <= value).mean()),
            tpr_attacked=float((inside.attacked <= value).mean()),
            fpr_clean=float((clean <= value).mean()),
            fpr_attacked=float((attacked <= value).mean()),
        )

    @property
    def strongest(self) -> dict[str, float]:
        """Share of all images on which each member found the worst score."""
        sets = [self.rounds.id_test, *self.rounds.ood.values()]
        names = ["unchanged image", *sets[0].members]
        counts = Counter(names[1 + number] for scored in sets for number in scored.member.tolist())
        total = sum(counts.values())
        return {name: counts[name] / total for name in names}


@full_precision()
def judge_detector(
    detector: Detector,
    splits: Splits,
    settings: Settings,
    sources: Sequence[Detector],
    tick: Tick,
    *,
    threshold: float | None = None,
    name: str | None = None,
) -> Judgement:
    """Attacks a detector on every set and checks whether the numbers can be trusted.

    Args:
        detector: The detector, on the right device.
        splits: The image sets.
        settings: Attack and execution.
        sources: Other detectors, for the transfer attack.
        tick: Called with the passes through the detector that are done.
        threshold: The detector's own threshold; None takes that of the held-out ID images.
        name: What it is called, where scores that are the wrong way round are to be refused.

    Returns:
        What was found.

    Raises:
        UserError: An empty set, or scores that are not finite numbers or point the wrong way.
    """
    averaged = averaged_sets(splits)
    sides = Sides.of(splits.id_test, [splits.ood_test[key] for key in averaged], PROBED)
    settings = _with_draws(detector, sides, settings)
    # What torch cannot trace for an export it would compile in small pieces, for minutes.
    compiles = settings.compiled and detector.info.exportable is True
    look = None if name is None else partial(_require_direction, name, averaged)
    with compiled_logits(detector) if compiles else nullcontext():
        rounds = attack_rounds(detector, splits, settings, sources, tick, threshold, look)
    probes = Probes(detector, sides, replace(settings, draws=1), sources, tick)
    checks = _checks(detector, rounds, sides, probes, settings)
    datasets = {
        key: _dataset(rounds.id_test, scored, _role(splits, key), settings.seed)
        for key, scored in rounds.ood.items()
    }
    stronger = _stronger(probes, rounds, averaged)
    return Judgement(settings, rounds, checks, datasets, averaged, probes.curves(), stronger)


def _require_direction(
    name: str, averaged: Sequence[str], inside: Array, outside: Mapping[str, Array]
) -> None:
    """Refuses scores that are the wrong way round, which would pass for merely bad ones."""
    low, high = auroc_interval(inside, np.concatenate([outside[key] for key in averaged]))
    if high < _REVERSED:
        raise UserError(
            f"{name}: its AUROC on unattacked images is {(low + high) / 2:.2f}, so its scores "
            "seem to be the wrong way round; a larger score must mean more likely OOD"
        )


def averaged_sets(splits: Splits) -> list[str]:
    """The far sets; all sets where there is no far one."""
    far = [name for name in splits.ood_test if _role(splits, name) == "far"]
    return far or list(splits.ood_test)


def _role(splits: Splits, name: str) -> Role:
    """A set that chose the best epoch is no independent test any more, and says so."""
    return "validation" if name in splits.selection else splits.roles.get(name, "far")


def _with_draws(detector: Detector, sides: Sides, settings: Settings) -> Settings:
    """A randomised detector is attacked in expectation (Athalye et al., 2018)."""
    device = settings.place
    images = sides.inside.fetch(torch.arange(min(8, len(sides.inside)))).to(device).float() / 255
    found = [is_randomised(detector, images)]
    if settings.accelerator is not None and settings.accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        found = gather_object(found)  # one that is random now and then must not divide them
    return replace(settings, draws=_DRAWS) if any(found) else settings


def _checks(
    detector: Detector, rounds: Rounds, sides: Sides, probes: Probes, settings: Settings
) -> dict[str, Check]:
    sets = [rounds.id_test, *rounds.ood.values()]
    inside, outside = (
        pixels.to(settings.place).float() / 255 for pixels in sides.pixels(PROBED // 2)
    )
    each = settings.epsilon / settings.whole_box(inside.shape[1:])
    return {
        "scores_finite": scores_finite([scored.broken for scored in sets]),
        "gradients_present": gradients_present([scored.zero_gradient for scored in sets]),
        **consistency_checks(detector, inside, outside, epsilon=each, seed=settings.seed),
        **probes.checks(),
    }


def _dataset(inside: ScoredSet, outside: ScoredSet, role: Role, seed: int) -> Dataset:
    return Dataset(
        images=len(outside.clean),
        role=role,
        clean=metrics(inside.clean, outside.clean, seed=seed),
        in_=metrics(inside.attacked, outside.clean, seed=seed),
        out=metrics(inside.clean, outside.attacked, seed=seed),
        both=metrics(inside.attacked, outside.attacked, seed=seed),
    )


def _stronger(probes: Probes, rounds: Rounds, averaged: list[str]) -> Stronger:
    """The strongest attack of the checks, beside the evaluation's own on the same images."""
    sides = probes.sides
    inside = rounds.id_test.attacked[sides.inside_at.numpy()]
    outside = np.concatenate(
        [
            rounds.ood[key].attacked[at.numpy()]
            for key, at in zip(averaged, sides.outside_at, strict=True)
        ]
    )
    return Stronger(
        attack=str(probes.strongest),
        auroc=probes.auroc(probes.strongest),
        same_images=auroc(inside, outside),
        images=ImageCounts(id=len(inside), ood=len(outside)),
    )

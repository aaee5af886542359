"""What an evaluation found, as typed values, and the same as JSON (`results.json`, schema 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from atd.errors import UserError
from atd.evaluation.certified import Certificate
from atd.evaluation.checks import Check
from atd.metrics import MeanMetrics, Metrics
from atd.records import from_json, to_json

__all__ = [
    "AttackFacts",
    "Baseline",
    "Curves",
    "Dataset",
    "DetectorFacts",
    "IdFacts",
    "Means",
    "ImageCounts",
    "Passes",
    "Provenance",
    "Results",
    "Role",
    "Stronger",
    "Threshold",
    "read_results",
]

Role = Literal["far", "near", "validation"]


_OF_ITSELF = ("same_score_in_any_batch", "same_score_after_anything")
"""Checks that an image's score is a function of that image alone, as a certificate takes it to be.
"""

Means = Mapping[str, MeanMetrics]
"""By condition, see `atd.metrics.CONDITIONS`; empty where there is no set to take the mean of."""


@dataclass(frozen=True)
class DetectorFacts:
    """Which detector was judged."""

    name: str
    path: str = ""
    parameters: int = 0
    sha256: str = ""
    kind: str = "atd"


@dataclass(frozen=True)
class Passes:
    """Passes through the detector per image."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class AttackFacts:
    """What was done to every image; `members` are `kind-STEPSxRESTARTS`."""

    tier: str
    norm: Literal["linf", "l2"]
    epsilon: float
    steps: int
    restarts: int
    members: tuple[str, ...]
    step_size: float = 0.0
    draws: int = 1
    passes: Passes = Passes()


@dataclass(frozen=True)
class IdFacts:
    """The ID test images."""

    name: str
    images: int


@dataclass(frozen=True)
class Dataset:
    """The metrics of one OOD set under each condition; `dataset["both"]["auroc"]`."""

    images: int
    role: Role
    clean: Metrics
    in_: Metrics
    out: Metrics
    both: Metrics

    def __getitem__(self, condition: str) -> Metrics:
        """The metrics under a condition of `atd.metrics.CONDITIONS`."""
        found = {"clean": self.clean, "in": self.in_, "out": self.out, "both": self.both}
        return found[condition]


@dataclass(frozen=True)
class Threshold:
    """Shares accepted (score <= value): ID as `tpr`, OOD of the averaged sets as `fpr`.

    `note` says what it does; one that was set after the evaluation has the one `evaluated` then.
    """

    value: float
    tpr_clean: float
    tpr_attacked: float
    fpr_clean: float
    fpr_attacked: float
    note: str = ""
    evaluated: float | None = None


@dataclass(frozen=True)
class Baseline:
    """What an evaluation found on another detector, on the same images."""

    mean: Means
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    verdict: str = ""


@dataclass(frozen=True)
class ImageCounts:
    """How many images of either side."""

    id: int
    ood: int


@dataclass(frozen=True)
class Curves:
    """AUROC against the strength of the attack, on a few images.

    Attributes:
        attack: The attack whose strength varies.
        images: How many images of either side.
        epsilon: Points with `epsilon`, `in`, `out` and `both`.
        steps: Points with `steps`, `in`, `out` and `both`.
    """

    attack: str = ""
    images: ImageCounts = ImageCounts(0, 0)
    epsilon: list[dict[str, float]] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Stronger:
    """What the strongest attack of the checks found, beside the evaluation's own.

    Attributes:
        attack: The attack of the checks.
        auroc: AUROC under it, both sides attacked.
        same_images: AUROC under the evaluation's attack, on the same images.
        images: How many images of either side.
    """

    attack: str
    auroc: float
    same_images: float
    images: ImageCounts


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from (`atd.provenance`).

    Attributes:
        command: The command that repeats the evaluation; empty in older results, from Python, and
            where there is none.
    """

    commit: str | None
    versions: Mapping[str, str]
    hardware: str
    seed: int
    config_sha256: str | None
    seconds: float
    date: str
    command: str = ""


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation says of a detector.

    Attributes:
        mean: Over the sets of `mean_over`, by condition.
        mean_near: Over the near sets; empty where there is none.
        strongest: Share of all images on which each attack found the worst score.
        stronger: What the strongest attack of the checks found; older results do not tell.
        curves: AUROC against the strength of the attack; empty in the oldest results.
        certificate: What no attack in L2 can take away, where that was asked for.
        left_out: What was not done though it was asked for, each with the reason.
    """

    schema: int
    detector: DetectorFacts
    attack: AttackFacts
    id: IdFacts
    datasets: Mapping[str, Dataset]
    mean: Means
    threshold: Threshold
    checks: Mapping[str, Check]
    verdict: str
    provenance: Provenance
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    protocol: str = "custom"
    mean_near: Means = field(default_factory=dict)
    mean_over: tuple[str, ...] = ()
    strongest: Mapping[str, float] = field(default_factory=dict)
    stronger: Stronger | None = None
    curves: Curves = field(default_factory=Curves)
    certificate: Certificate | None = None
    left_out: tuple[str, ...] = ()

    @property
    def certificate_is_void(self) -> bool:
        """Whether the score of an image was found to depend on other images."""
        return any(name in self.checks and not self.checks[name].passed for name in _OF_ITSELF)

    def to_json(self) -> dict[str, Any]:
        """The results as `results.json` holds them."""
        found: dict[str, Any] = to_json(self)
        return found

    @classmethod
    def from_json(cls, value: Any) -> Results:
        """Reads what `to_json` gave, or what older versions wrote.

        Raises:
            ValueError: A value is missing or has another type.
        """
        if isinstance(value, Mapping) and isinstance(value.get("baselines"), Mapping):
            value = {**value, "baselines": _baselines(value["baselines"])}
        found = from_json(cls, value)
        if found.schema != 1:
            raise ValueError(f"schema: {found.schema} is unknown; update atd")
        far = tuple(name for name, item in found.datasets.items() if item.role == "far")
        return found if found.mean_over else replace(found, mean_over=far or tuple(found.datasets))


def _baselines(found: Mapping[str, Any]) -> dict[str, Any]:
    """Baselines of older versions are bare means."""
    return {
        name: item if not isinstance(item, Mapping) or "mean" in item else {"mean": item}
        for name, item in found.items()
    }


def read_results(file: Path) -> Results:
    """Reads a `results.json`.

    Raises:
        UserError: It cannot be read or is damaged; one line.
    """
    import json

    try:
        return Results.from_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: no results of an evaluation: {error}") from None

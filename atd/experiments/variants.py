"""The rows of the tables: kinds as they are, kinds with options, kinds on other backbones.

`KIND` is a row, `KIND:WORD` one with options, and `@TRAINING` behind either puts it on a backbone
that was trained in another way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from atd.detectors.kinds import KINDS
from atd.errors import UserError, nearest, printable

__all__ = ["DEFAULTS", "TRAININGS", "VARIANTS", "FittedTo", "Variant", "variant"]

FittedTo = Literal["outliers", "other test sets", "itself"]
"""Which outliers a kind that is fitted to some is given: those of the run, which are not tested on;
all test sets but the one that is judged; or images of that one, which no user has."""


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        kind: A key of `atd.detectors.kinds.KINDS`.
        options: Options of the config that make it.
        note: What tells it from other rows of its kind.
        fitted_to: As the type says.
        training: A key of `TRAININGS`; empty for the backbone of the config.
    """

    kind: str
    options: tuple[str, ...] = ()
    note: str = ""
    fitted_to: FittedTo = "outliers"
    training: str = ""


_NOTES = {
    "confounding_gradients": "fitted to outliers only, which are not tested on",
    "daain": "head nll",
    "gaia_z": "as published: counts zeros",
    "splitting_integrating": "as released, gradients added",
}
"""Of kinds that have variants."""

VARIANTS = {
    "confounding_gradients:leave_one_out": Variant(
        "confounding_gradients",
        ("detector.protocol=leave_one_out",),
        "fitted to all test sets but the one that is judged",
        "other test sets",
    ),
    "confounding_gradients:anomaly": Variant(
        "confounding_gradients",
        ("detector.protocol=anomaly",),
        "**sees the anomaly**: fitted to further images of the set that is judged, as in the paper "
        "(40/40/20); an upper bound",
        "itself",
    ),
    "daain:euclidean": Variant("daain", ("detector.head=euclidean",), "head euclidean"),
    "daain:histogram": Variant("daain", ("detector.head=histogram",), "head histogram"),
    "gaia_z:share": Variant(
        "gaia_z", ("detector.statistic=share",), "ours: counts what is above a threshold"
    ),
    "gaia_z:spread": Variant("gaia_z", ("detector.statistic=spread",), "ours: continuous"),
    "splitting_integrating:multiply": Variant(
        "splitting_integrating", ("detector.combine=multiply",), "as released, gradients multiplied"
    ),
    "splitting_integrating:paper": Variant(
        "splitting_integrating", ("detector.variant=paper",), "the paper's integral"
    ),
    "atd:opengan": Variant("atd", ("recipe=opengan",), "OpenGAN of features: attacked nowhere"),
    "atd:opengan_pixels": Variant(
        "atd", ("recipe=opengan", "atd.features=pixels"), "OpenGAN of pixels, without a backbone"
    ),
}
"""Kinds with options, by the name of the row."""

_VIT = (
    *("backbone.architecture=timm:test_vit:patch_size=4", "backbone.features=last"),
    *("pretrain.optimizer=adamw", "pretrain.lr=1e-3", "pretrain.weight_decay=0.05"),
    "pretrain.epochs=60",  # the digits' own recipe leaves it at an accuracy of 0.23
)

TRAININGS = {
    **{
        objective: (f"pretrain.objective={objective}",)
        for objective in (
            *("standard", "adversarial", "trades", "hat"),
            *("oe", "aoe", "aloe", "halo", "atom", "osad"),
        )
    },
    "vit_standard": (*_VIT, "pretrain.objective=standard"),
    "vit_adversarial": (*_VIT, "pretrain.objective=adversarial"),
}
"""Ways to train a backbone, as options of the config."""

DEFAULTS = {
    "detectors": tuple(
        name
        for kind in KINDS
        for name in (kind, *(other for other in VARIANTS if VARIANTS[other].kind == kind))
    ),
    "objectives": (
        *(f"msp@{training}" for training in TRAININGS if training != "atom"),
        *("mahalanobis@vit_standard", "confounding_gradients@vit_standard"),
        *("outlier_class@atom", "atd:opengan@standard"),
    ),
    "speeds": tuple(KINDS),
}
"""The rows of each table, in the order in which they are shown."""


def variant(name: str, option: str = "--kinds") -> Variant:
    """The row of a name.

    Args:
        name: `KIND`, `KIND:WORD`, or either with `@TRAINING`.
        option: Where it was named, for messages.

    Raises:
        UserError: There is none of that name; the message names the nearest.
    """
    row, at, training = name.partition("@")
    _require(row, (*KINDS, *VARIANTS), name, option)
    if at:
        _require(training, tuple(TRAININGS), name, option)
    found = VARIANTS.get(row) or Variant(row, note=_NOTES.get(row, ""))
    return dataclasses.replace(found, training=training)


def _require(part: str, known: Sequence[str], name: str, option: str) -> None:
    if part not in known:
        raise UserError(
            f"{option}={printable(name, 60)}: unknown; the nearest is {nearest(part, known)} "
            f"(known: {', '.join(known)})"
        )

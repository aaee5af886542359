"""The kinds of detectors, one line each; a kind's module is imported when it is first asked for."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atd.config import Config
from atd.config.ranges import OptionError
from atd.config.values import build, option_types
from atd.errors import UserError, nearest, printable

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["KINDS", "kind_class", "kind_options", "resolved"]

KINDS = {
    "atd": "atd.detectors.atd:ATD",
    "confounding_gradients": "atd.detectors.confounding_gradients:ConfoundingGradients",
    "daain": "atd.detectors.daain:DAAIN",
    "energy": "atd.detectors.energy:Energy",
    "gaia_a": "atd.detectors.gaia_a:GaiaA",
    "gaia_z": "atd.detectors.gaia_z:GaiaZ",
    "knn": "atd.detectors.knn:NearestNeighbours",
    "mahalanobis": "atd.detectors.mahalanobis:Mahalanobis",
    "max_logit": "atd.detectors.max_logit:MaximumLogit",
    "msp": "atd.detectors.msp:MaximumSoftmax",
    "odin": "atd.detectors.odin:ODIN",
    "openmax": "atd.detectors.openmax:OpenMax",
    "outlier_class": "atd.detectors.outlier_class:OutlierClass",
    "relative_mahalanobis": "atd.detectors.relative_mahalanobis:RelativeMahalanobis",
    "splitting_integrating": "atd.detectors.splitting_integrating:SplittingIntegrating",
    "vim": "atd.detectors.vim:VirtualLogit",
}


def kind_class(kind: str, option: str = "detector.kind") -> type[Detector]:
    """The class of a kind.

    Args:
        kind: A key of `KINDS`.
        option: Where the kind was named, for messages.

    Returns:
        The class.

    Raises:
        UserError: Unknown kind; the message names the nearest.
    """
    if kind not in KINDS:
        raise UserError(
            f"{option}={printable(kind, 60)}: unknown; the nearest is {nearest(kind, KINDS)} "
            f"(known: {', '.join(KINDS)})"
        )
    module, _, name = KINDS[kind].partition(":")
    found: type[Detector] = getattr(importlib.import_module(module), name)
    return found


def kind_options(kind: str, values: Mapping[str, Any]) -> Any:
    """A kind's options, as `detector.OPTION=VALUE` gives them.

    Args:
        kind: A key of `KINDS`.
        values: Options by name, as text or as values.

    Returns:
        The kind's `Options`.

    Raises:
        UserError: Unknown kind, an option that it has not, or an impossible value.
    """
    cls = kind_class(kind)
    known = option_types(cls.Options)
    for name in values:
        if name not in known:
            raise UserError(_unknown_option(kind, name, list(known)))
    try:
        return build(cls.Options, values, "detector")
    except OptionError as error:
        raise UserError(str(error)) from None


def _unknown_option(kind: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    owners = [item for item in KINDS if name in option_types(kind_class(item).Options)]
    hint = f"it has {', '.join(known) or 'none'}"
    if close:
        hint = f"did you mean detector.{close[0]}?"
    elif owners:
        hint += f"; {name} is one of kind {', '.join(owners)}"
    return f"detector.{printable(name, 60)}: kind {kind} has no such option; {hint}"


def resolved(config: Config) -> Config:
    """A run's options with those of its kind of detector filled in.

    Args:
        config: The options as written.

    Returns:
        The same with every option of the kind, read and checked.

    Raises:
        UserError: Unknown kind (of the baselines too), an option that it has not, an impossible
            value, or a discriminator of pixels for a kind that reads a backbone.
    """
    for name in config.evaluate.baselines:
        kind_class(name, "evaluate.baselines")
    kind = config.detector_kind
    given = {name: value for name, value in config.detector.items() if name != "kind"}
    if kind == "atd":
        for name in given:
            key = f"detector.{printable(name, 60)}"
            if difflib.get_close_matches(name[:100], ["kind"], n=1, cutoff=0.7):
                raise UserError(f"{key}: unknown key; did you mean detector.kind?")
            raise UserError(
                f"{key}: kind atd has its options under atd, e.g. atd.normalisation=layer"
            )
        return config
    options = dataclasses.asdict(kind_options(kind, given))
    if config.atd.features == "pixels":
        raise UserError(
            f"atd.features=pixels: kind {kind} reads a backbone; only detector.kind=atd can do "
            "without"
        )
    return dataclasses.replace(config, detector={"kind": kind, **options})

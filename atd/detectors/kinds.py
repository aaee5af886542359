"""The kinds of detectors, one line each; a kind's module is imported when it is first asked for."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from atd.errors import UserError

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["KINDS", "kind_class"]

KINDS = {
    "atd": "atd.detectors.atd:ATD",
    "confounding_gradients": "atd.detectors.confounding_gradients:ConfoundingGradients",
    "daain": "atd.detectors.daain:DAAIN",
    "energy": "atd.detectors.energy:Energy",
    "gaia_a": "atd.detectors.gaia_a:GaiaA",
    "gaia_z": "atd.detectors.gaia_z:GaiaZ",
    "splitting_integrating": "atd.detectors.splitting_integrating:SplittingIntegrating",
}


def kind_class(kind: str) -> type[Detector]:
    """The class of a kind.

    Args:
        kind: A key of `KINDS`.

    Returns:
        The class.

    Raises:
        UserError: Unknown kind; the message names the nearest.
    """
    if kind not in KINDS:
        nearest = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
        known = ", ".join(KINDS)
        raise UserError(
            f"detector.kind={kind[:80]!r}: unknown; the nearest is {nearest} (known: {known})"
        )
    module, _, name = KINDS[kind].partition(":")
    found: type[Detector] = getattr(importlib.import_module(module), name)
    return found

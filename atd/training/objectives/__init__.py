"""The objectives of pre-training: one file each, which is found by its name."""

from __future__ import annotations

import importlib

from atd.training.objectives.base import Network, Objective, Raises, Side

__all__ = ["Network", "Objective", "Raises", "Side", "objective_of"]


def objective_of(name: str) -> Objective:
    """An objective by its name.

    Args:
        name: A value of `pretrain.objective`; the file of that name here defines `OBJECTIVE`.
    """
    found: Objective = importlib.import_module(f"{__name__}.{name}").OBJECTIVE
    return found

"""The attacks that an evaluation can be made of: one file each, which is found by its kind."""

from __future__ import annotations

import importlib
import pkgutil
import re

from atd.attacks.suite.base import Means, Member, Situation

__all__ = ["KINDS", "Means", "Member", "Situation", "kind_of", "member", "parse"]

KINDS = tuple(item.name for item in pkgutil.iter_modules(__path__) if item.name != "base")
"""Every kind of attack: the file `KIND.py` in this folder defines it as `ATTACK`."""


def kind_of(name: str) -> type[Member]:
    """The class of a kind of attack.

    Raises:
        KeyError: There is no such kind.
    """
    if name not in KINDS:
        raise KeyError(name)
    found: type[Member] = importlib.import_module(f"{__name__}.{name}").ATTACK
    return found


def member(kind: str, steps: int = 1, restarts: int = 1) -> Member:
    """An attack by its kind, its steps (queries of Square) and its random starts."""
    return kind_of(kind)(steps, restarts)


def parse(text: str) -> Member:
    """An attack as tiers and results name it, `kind-STEPSxRESTARTS`.

    Raises:
        KeyError: The text names no attack.
    """
    found = re.fullmatch(r"(\w+)-(\d+)x(\d+)", text)
    if found is None:
        raise KeyError(text)
    return member(found[1], int(found[2]), int(found[3]))

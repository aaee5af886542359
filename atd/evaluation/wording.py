"""Numbers as people read them, the same in the page, the pictures and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["attack_words", "fraction_255", "percent", "plural"]


def percent(share: float) -> str:
    """A share in percent with one decimal, without the sign: 0.9432 -> 94.3."""
    return f"{100 * share:.1f}"


def fraction_255(epsilon: float) -> str:
    """A radius on the [0, 1] scale in pixel levels: 0.031372 -> 8/255."""
    return f"{epsilon * 255:.4g}/255"


def plural(count: int, noun: str) -> str:
    """1 restart, 5 restarts, 10,000 images."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def attack_words(attack: Mapping[str, Any]) -> str:
    """The attack of a result in one phrase, e.g. `PGD-100, 1 restart, L-inf, epsilon 8/255`."""
    restarts = plural(int(attack["restarts"]), "restart")
    members = "+".join(str(member).upper() for member in attack["members"])
    radius = f"epsilon {fraction_255(attack['epsilon'])} ({attack['epsilon']:.4f})"
    return f"{members}-{attack['steps']}, {restarts}, L-inf, {radius}"

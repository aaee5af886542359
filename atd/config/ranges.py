"""Ranges of options: a value outside is refused by its key, with what it may be."""

from __future__ import annotations

__all__ = ["require", "require_epsilon"]


def require(condition: bool, key: str, value: object, rule: str) -> None:
    """Refuses an option whose value breaks a rule, e.g. `from 0 to 100`.

    Raises:
        ValueError: The condition does not hold.
    """
    if not condition:
        raise ValueError(f"{key}={value} is out of range: it must be {rule}")


def require_epsilon(key: str, value: float) -> None:
    """Refuses a radius that is not one on the [0, 1] pixel scale."""
    remedy = "between 0 and 1 on the [0, 1] pixel scale (8/255 may be written as a fraction)"
    require(0.0 <= value <= 1.0, key, value, remedy)

"""What an option may be: every number is finite and has a range, declared beside it.

epochs: Annotated[int, Range(1, 1000)] = 20
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from atd.errors import printable

__all__ = [
    "Count",
    "Epsilon",
    "LearningRate",
    "Limit",
    "OptionError",
    "Range",
    "Steps",
    "Weight",
    "duration",
    "require",
    "shown",
]


class OptionError(ValueError):
    """An option that is unknown, of another type or out of its range.

    Attributes:
        key: The option's full key, e.g. `atd.epsilon`.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Range:
    """The finite numbers between two ends.

    Attributes:
        low: Smallest value.
        high: Largest value.
        above: `low` itself is excluded.
        below: `high` itself is excluded.
        auto: 0 is taken as well, and may be written `auto`: the program chooses.
        note: What the numbers mean, for messages.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    auto: bool = False
    note: str = ""

    def __contains__(self, value: float) -> bool:
        if self.auto and value == 0:
            return True
        if not self.low <= value <= self.high:
            return False
        return not (self.above and value == self.low or self.below and value == self.high)

    def __str__(self) -> str:
        low = f"above {self.low} and" if self.above else f"from {self.low}"
        high = f"to below {self.high}" if self.below else f"to {self.high}"
        if self.above:
            high = f"below {self.high}" if self.below else f"at most {self.high}"
        return f"{'auto or ' if self.auto else ''}{low} {high} {self.note}".rstrip()


Epsilon = Annotated[
    float, Range(0, 1, note="on the [0, 1] pixel scale (8/255 may be written as a fraction)")
]
Count = Annotated[int, Range(1, 100_000)]
Steps = Annotated[int, Range(0, 100_000_000)]
Limit = Annotated[int, Range(0, 1_000_000_000)]
LearningRate = Annotated[float, Range(0, 1000, above=True)]
Weight = Annotated[float, Range(0, 1000)]


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def duration(text: str, key: str) -> float:
    """Reads a length of time: `90s`, `30m`, `2h`, `1.5h`, or seconds without a unit.

    Args:
        text: What was written; empty means none.
        key: The option's full key, for the message.

    Returns:
        Seconds; 0 for none.

    Raises:
        OptionError: It is none, or not above 0.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s?([smh]?)", text)
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    require(not text or seconds > 0, key, text, "a length of time such as 90s, 30m or 2h, or empty")
    return seconds


def require(condition: bool, key: str, value: object, rule: str) -> None:
    """Refuses an option whose value breaks a rule, e.g. `0 or at least 2`.

    Raises:
        OptionError: The condition does not hold.
    """
    if not condition:
        raise OptionError(key, f"{key}={shown(value)} is out of range: it must be {rule}")


def shown(value: object) -> str:
    """A value as messages show it: short, on one line."""
    match value:
        case dict():
            return "{...}"
        case list() | tuple():
            return "[...]"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() if abs(value) > 10**60:
            return "a number of more than 60 digits"
    return printable(str(value), 60)

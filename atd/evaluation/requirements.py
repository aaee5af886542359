"""Conditions that an evaluation must meet, for gates.

`both.auroc>=0.6`, `certified@0.25>=0.9`, `trusted`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
from collections.abc import Sequence

from atd.errors import UserError, nearest
from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Results
from atd.evaluation.smoothing import Smoothing
from atd.metrics import CONDITIONS, METRICS

__all__ = [
    "Condition",
    "parse_conditions",
    "require_certified",
    "require_sets",
    "unmet",
    "unmet_by_any",
]

_CERTIFIED = "certified@"

_SHARES = ("value", "tpr_clean", "tpr_attacked", "fpr_clean", "fpr_attacked")

_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"(?P<key>[^<>=]+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<number>\S+)")


@dataclasses.dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        text: As it was written.
        key: What is compared, e.g. `both.auroc` or `certified@0.25`; `trusted` alone compares
            nothing.
        sign: How.
        number: With what.
    """

    text: str
    key: str
    sign: str = ""
    number: float = 0.0


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Reads conditions, as far as that needs no results.

    Args:
        texts: `trusted`, or a key, one of >=, <=, > and <, and a number. Keys are
            `CONDITION.METRIC` of the mean, `near.CONDITION.METRIC`, `SET.CONDITION.METRIC`,
            `threshold.SHARE` and `certified@RADIUS` (L2, both sides attacked).

    Raises:
        UserError: A text is no condition.
    """
    return [_parse(text) for text in texts]


def _parse(text: str) -> Condition:
    if text == "trusted":
        return Condition(text, text)
    found = _FORM.fullmatch(text.strip())
    if found is None:
        hint = "; did you mean trusted?" if difflib.get_close_matches(text, ["trusted"]) else ""
        raise UserError(f"--require {text}: a condition is `trusted` or like both.auroc>=0.6{hint}")
    key, number = found["key"], _number(text, found["number"])
    if key.startswith(_CERTIFIED):
        key = _certified(_number(text, key.removeprefix(_CERTIFIED)))
    else:
        _check_metric(text, key)
    if number > 2.0:  # nobody means a share
        raise UserError(f"--require {text}: shares lie between 0 and 1; 60 % is 0.6")
    return Condition(text, key, found["sign"], number)


def _number(text: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--require {text}: {word} is not a number")
    return number


def _certified(radius: float) -> str:
    return f"{_CERTIFIED}{radius:g}"


def _check_metric(text: str, key: str) -> None:
    """Refuses what no result can have, before hours of work."""
    head, _, last = key.rpartition(".")
    shares = [f"threshold.{item}" for item in _SHARES]
    if head == "threshold" and key in shares:
        return
    condition = head.rpartition(".")[2]
    if condition in CONDITIONS and last in METRICS:
        return
    metrics = [f"{item}.{metric}" for item in CONDITIONS for metric in METRICS]
    prefix = f"{head.rpartition('.')[0]}." if "." in head and head.count(".") else ""
    known = [_certified(0.25), *shares, *(prefix + item for item in metrics)]
    raise _unknown(text, key, known)


def require_sets(conditions: Sequence[Condition], names: Sequence[str], *, near: bool) -> None:
    """Refuses conditions on sets that are not evaluated, before hours of work.

    Args:
        conditions: The conditions.
        names: The OOD test sets.
        near: Whether one of them is near, so that there is a mean over these.

    Raises:
        UserError: A condition names another set; the nearest is named.
    """
    known = [f"{name}." for name in (*["near"] * near, *names)]
    for condition in conditions:
        name, _, rest = condition.key.rpartition(".")[0].rpartition(".")
        if rest and name and f"{name}." not in known:
            every = [f"{item}{rest}.{condition.key.rpartition('.')[2]}" for item in known]
            raise _unknown(condition.text, condition.key, every)


def require_certified(conditions: Sequence[Condition], smoothing: Smoothing | None) -> None:
    """Refuses conditions on radii that are not certified, before hours of work.

    Args:
        conditions: The conditions.
        smoothing: What is certified, if anything.

    Raises:
        UserError: A condition names another radius; the nearest is named.
    """
    for condition in conditions:
        if not condition.key.startswith(_CERTIFIED):
            continue
        if smoothing is None:
            remedy = "nothing is certified; add evaluate.certify=true"
            raise UserError(f"--require {condition.text}: {remedy}")
        known = [_certified(radius) for radius in smoothing.at]
        if condition.key not in known:
            radii = ", ".join(f"{radius:g}" for radius in smoothing.at)
            remedy = f"evaluate.certify_radii has no such radius (certified: {radii})"
            raise UserError(f"--require {condition.text}: {remedy}")


def unmet(conditions: Sequence[Condition], results: Results) -> list[str]:
    """The conditions that results do not meet, a line each.

    Raises:
        UserError: A condition names a set that was not evaluated, or a radius that was not
            certified.
    """
    values = _values(results)
    lines = []
    for condition in conditions:
        if condition.key == "trusted":
            if results.verdict != TRUSTED:
                lines.append(f"trusted: {results.verdict}")
            continue
        if condition.key.startswith(_CERTIFIED) and results.certificate_is_void:
            lines.append(f"{condition.text}: void, the score of an image depends on other images")
            continue
        if condition.key not in values:
            raise _unknown(condition.text, condition.key, list(values))
        found = values[condition.key]
        if not _COMPARE[condition.sign](found, condition.number):
            lines.append(f"{condition.text}: it is {found:.4f}")
    return lines


def unmet_by_any(conditions: Sequence[Condition], several: Sequence[Results]) -> list[str]:
    """`unmet` of several results; with more than one, a line begins with its detector's name.

    Raises:
        UserError: As `unmet`.
    """
    return [
        f"{results.detector.name}: {line}" if len(several) > 1 else line
        for results in several
        for line in unmet(conditions, results)
    ]


def _values(results: Results) -> dict[str, float]:
    groups = {"": results.mean, "near.": results.mean_near}
    values = {
        f"{prefix}{condition}.{metric}": float(found)
        for prefix, means in groups.items()
        for condition, metrics in means.items()
        for metric, found in metrics.items()
        if isinstance(found, (int, float))
    }
    for name, item in results.datasets.items():
        for condition in CONDITIONS:
            for metric, share in item[condition].items():
                if isinstance(share, (int, float)):
                    values[f"{name}.{condition}.{metric}"] = float(share)
    if results.certificate is not None:
        values |= {_certified(point.radius): point.both for point in results.certificate.mean}
    for key in _SHARES:
        values[f"threshold.{key}"] = dataclasses.asdict(results.threshold)[key]
    return values


def _unknown(text: str, key: str, known: Sequence[str]) -> UserError:
    hint = f"; did you mean {nearest(key, known)}?" if known else ""
    return UserError(f"--require {text}: {key} is unknown{hint}")

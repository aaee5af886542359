"""Conditions that an evaluation must meet, for gates: `both.auroc>=0.6`, `trusted`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
from collections.abc import Sequence

from atd.errors import UserError
from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Results
from atd.metrics import CONDITIONS, METRICS

__all__ = ["Condition", "parse_conditions", "require_sets", "unmet"]

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
        key: What is compared, e.g. `both.auroc`; `trusted` alone compares nothing.
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
            `CONDITION.METRIC` of the mean, `near.CONDITION.METRIC`, `SET.CONDITION.METRIC` and
            `threshold.SHARE`.

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
    try:
        number = float(found["number"])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--require {text}: {found['number']} is not a number")
    _check_metric(text, found["key"])
    return Condition(text, found["key"], found["sign"], number)


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
    raise _unknown(text, key, [*shares, *(prefix + item for item in metrics)])


def require_sets(conditions: Sequence[Condition], names: Sequence[str]) -> None:
    """Refuses conditions on sets that are not evaluated, before hours of work.

    Args:
        conditions: The conditions.
        names: The OOD test sets.

    Raises:
        UserError: A condition names another set; the nearest is named.
    """
    known = [f"{name}." for name in ("near", *names)]
    for condition in conditions:
        name, _, rest = condition.key.rpartition(".")[0].rpartition(".")
        if rest and name and f"{name}." not in known:
            every = [f"{item}{rest}.{condition.key.rpartition('.')[2]}" for item in known]
            raise _unknown(condition.text, condition.key, every)


def unmet(conditions: Sequence[Condition], results: Results) -> list[str]:
    """The conditions that results do not meet, a line each.

    Raises:
        UserError: A condition names a set that was not evaluated.
    """
    values = _values(results)
    lines = []
    for condition in conditions:
        if condition.key == "trusted":
            if results.verdict != TRUSTED:
                lines.append(f"trusted: {results.verdict}")
            continue
        if condition.key not in values:
            raise _unknown(condition.text, condition.key, list(values))
        found = values[condition.key]
        if not _COMPARE[condition.sign](found, condition.number):
            lines.append(f"{condition.text}: it is {found:.4f}")
    return lines


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
    for key in _SHARES:
        values[f"threshold.{key}"] = dataclasses.asdict(results.threshold)[key]
    return values


def _unknown(text: str, key: str, known: Sequence[str]) -> UserError:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return UserError(f"--require {text}: {key} is unknown{hint}")

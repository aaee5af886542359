"""What came of each row of a table of detectors, and the table."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import AttackFacts, Means, Provenance
from atd.metrics import CONDITIONS
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.table_parts import table
from atd.reporting.wording import attack_words, grouped, percent, plural

__all__ = ["KindRow", "by_setting", "sections_of"]


@dataclass(frozen=True)
class KindRow:
    """What came of one row with one seed.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        kind: The kind of detector.
        options: Options that are not the kind's defaults.
        backbone: The backbone in one phrase.
        provenance: Where the row comes from.
        variant: The row's name; the oldest rows are of kinds without options and have none.
        note: What tells it from other rows of its kind.
        training: How its backbone was trained; empty for as the config says.
        mean: AUROC and more over the far sets, by condition.
        intervals: 95 % intervals over images of the mean AUROC, by condition.
        mean_over: Those sets.
        images: ID test images.
        attack: What was done to every image.
        verdict: Whether the numbers can be trusted.
        refused: Why there are no numbers; empty where there are.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    kind: str
    options: tuple[str, ...]
    backbone: str
    provenance: Provenance
    variant: str = ""
    note: str = ""
    training: str = ""
    mean: Means | None = None
    intervals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    mean_over: tuple[str, ...] = ()
    images: int = 0
    attack: AttackFacts | None = None
    verdict: str = ""
    refused: str = ""

    @property
    def name(self) -> str:
        """What its row is called."""
        return self.variant or self.kind

    @property
    def words(self) -> str:
        """What measures its table, less the name of the table."""
        words = f"--scale {self.scale} --config {self.config}"
        return " ".join([words, *map(shlex.quote, self.overrides)])


def by_setting(rows: Iterable[KindRow]) -> list[list[KindRow]]:
    """Rows that belong into one table."""
    tables: dict[str, list[KindRow]] = {}
    for row in rows:
        tables.setdefault(row.words, []).append(row)
    return list(tables.values())


def sections_of(rows: Iterable[KindRow], order: Sequence[str], what: str) -> list[str]:
    """A table for every setting.

    Args:
        rows: Every row with every seed.
        order: Names of rows, in the order in which they are shown; unknown ones come last.
        what: The WHAT of the command that measures them.
    """
    return [_section(found, order, what) for found in by_setting(rows)]


def _section(rows: Sequence[KindRow], order: Sequence[str], what: str) -> str:
    """A setting: backbone, attack, and its rows."""
    named: dict[str, list[KindRow]] = {}
    for row in rows:
        named.setdefault(row.name, []).append(row)
    names = [name for name in order if name in named]
    names += [name for name in named if name not in order]
    head = ["row", "seeds", *CONDITIONS, "verdict"]
    told = table(head, [_cells(name, named[name]) for name in names], words=(0, len(head) - 1))
    changed = [
        f"`{name}`: {' '.join(f'`{option}`' for option in named[name][0].options)}"
        for name in names
        if named[name][0].options
    ]
    options = f"\n\nOptions that are no defaults: {'; '.join(changed)}." if changed else ""
    overrides = "".join(f", {verbatim(words)}" for words in rows[0].overrides)
    return f"""## {escaped(rows[0].config)}, scale {rows[0].scale}{overrides}

    python -m atd.reproduce {what} {rows[0].words}

{_basis(rows)}

{told}{options}"""


def _basis(rows: Sequence[KindRow]) -> str:
    """What the numbers of a table are read with."""
    attacks = {
        row.name: f"tier {row.attack.tier}, {attack_words(row.attack)}"
        for row in rows
        if row.attack is not None
    }
    backbones = {
        row.training or "the config's": row.backbone.replace(f"={row.training},", "=TRAINING,")
        for row in rows
    }
    measured = [row for row in rows if row.mean]
    sets = dict.fromkeys(name for row in measured for name in row.mean_over)
    count = max((row.images for row in measured), default=0)
    return (
        f"Backbone: {escaped(grouped(backbones))}. "
        f"Attack (steps x starts): {grouped(attacks) if attacks else 'none'}. "
        f"AUROC in percent, mean over the far sets ({', '.join(map(escaped, sets)) or 'no set'}) "
        f"and seeds, {plural(count, 'ID image')}; in brackets the 95 % interval over images, below "
        f"it the lowest and the highest seed.{_best(measured)}"
    )


def _best(rows: Sequence[KindRow], count: int = 3) -> str:
    """The rows that are left with most where both sides are attacked."""
    both: dict[str, list[float]] = {}
    for row in rows:
        if row.mean:
            both.setdefault(row.name, []).append(row.mean["both"]["auroc"])
    means = {name: statistics.mean(values) for name, values in both.items()}
    first = sorted(means, key=lambda name: -means[name])[:count]
    told = ", ".join(f"`{name}` {percent(means[name])}" for name in first)
    return f" Highest with both sides attacked: {told}." if len(means) > count else ""


def _cells(name: str, rows: Sequence[KindRow]) -> list[str]:
    measured = [row for row in rows if row.mean]
    reasons = sorted({row.refused for row in rows if row.refused})
    told = [_verdicts(measured)] if measured else []
    told += [f"refused: {escaped(reason).replace('|', '/')}" for reason in reasons]
    note = f" {rows[0].note}" if rows[0].note else ""
    aurocs = [_auroc(measured, condition) for condition in CONDITIONS]
    return [f"`{name}`{note}", str(len(measured)), *aurocs, "; ".join(told)]


def _auroc(rows: Sequence[KindRow], condition: str) -> str:
    """Mean in percent, its interval over images, and lowest to highest of several seeds."""
    values = [row.mean[condition]["auroc"] for row in rows if row.mean]
    if not values:
        return ""
    told = percent(statistics.mean(values))
    bounds = [row.intervals[condition] for row in rows if condition in row.intervals]
    if bounds:
        low, high = (statistics.mean(side) for side in zip(*bounds, strict=True))
        told += f" [{percent(low)}, {percent(high)}]"
    if len(values) > 1:
        told += f"<br>{percent(min(values))} to {percent(max(values))}"
    return told


def _verdicts(rows: Sequence[KindRow]) -> str:
    """`trusted`, or in how many runs which checks failed."""
    failed = [row.verdict for row in rows if row.verdict != TRUSTED]
    if not failed:
        return "trusted"
    names = {name: None for words in failed for name in words.partition(": ")[2].split(", ")}
    share = f" ({len(failed)} of {plural(len(rows), 'seed')})" if len(rows) > 1 else ""
    return f"**suspicious**{share}: {', '.join(names)}"

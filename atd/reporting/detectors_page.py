"""The page of all kinds of detectors: what each is, and what came of it in every setting."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atd.detectors.kinds import KINDS
from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import AttackFacts, Means, Provenance
from atd.metrics import CONDITIONS
from atd.records import to_json
from atd.reporting.kinds import kinds_table
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.wording import attack_words, grouped, interval, measured_on, plural

__all__ = ["KindRow", "Speed", "detectors_page"]


@dataclass(frozen=True)
class Speed:
    """Images per second of `score`: a detector's, and MSP's on the same backbone beside it."""

    images_per_second: float
    of_msp: float


@dataclass(frozen=True)
class KindRow:
    """What came of one kind with one seed.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        kind: The kind.
        options: Options of the kind that are not its defaults, as `detector.OPTION=VALUE`.
        backbone: The backbone in one phrase.
        provenance: Where the row comes from.
        mean: AUROC and more over the far sets, by condition.
        mean_over: Those sets.
        images: ID test images.
        attack: What was done to every image.
        verdict: Whether the numbers can be trusted.
        speed: How fast it is.
        refused: Why there are no numbers; empty where there are.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    kind: str
    options: tuple[str, ...]
    backbone: str
    provenance: Provenance
    mean: Means | None = None
    mean_over: tuple[str, ...] = ()
    images: int = 0
    attack: AttackFacts | None = None
    verdict: str = ""
    speed: Speed | None = None
    refused: str = ""

    @property
    def command(self) -> str:
        """What measures its table."""
        words = f"python -m atd.reproduce detectors --scale {self.scale} --config {self.config}"
        return " ".join([words, *self.overrides])


_INTRODUCTION = """\
Made by a command that can be run again. Within a table all kinds read the same backbone, one for
each seed; `atd` is trained on it, the others are fitted where they need it. All are attacked alike
and undergo the checks of every evaluation. A suspicious
verdict is a result: a stronger attack may then leave less than the row says."""

_PAPERS = """\
No number of the papers is quoted beside ours, because in no case do setting and data agree:

* ATD: the paper has CIFAR-10 and CIFAR-100 with a full-sized backbone trained robustly on many
  further images, whole test sets and epsilon 8/255; its other methods were attacked by PGD-10.
  Ours are smaller networks, fewer images, and the epsilon that is named above each table.
* Confounding-label gradients: the paper fits the perceptron to the very anomaly that is tested;
  ours is fitted to outliers that are not tested on. Its networks are full-sized.
* S & I and GAIA: the papers judge images that nobody attacked, by full-sized networks that were
  not trained robustly; the released code of S & I lacks the paper's integral (`detector.variant`).
* DAAIN: the paper monitors a segmentation network; the tables here have classifiers.
* The scores read off a classifier (MSP, energy, ODIN, OpenMax, Mahalanobis, KNN, ViM): their papers
  report images that nobody attacked, and networks that were not trained robustly."""


def detectors_page(rows: Mapping[str, KindRow]) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every kind with every seed; at least one.
    """
    tables: dict[str, list[KindRow]] = {}
    for row in rows.values():
        tables.setdefault(row.command, []).append(row)
    facts = [to_json(row.provenance) for row in rows.values()]
    parts = [
        f"# Every kind of detector under one attack\n\n{_INTRODUCTION}",
        f"## The kinds\n\n{kinds_table()}",
        *map(_section, tables.values()),
        f"## The papers' own tables\n\n{_PAPERS}",
        f"## Where the numbers come from\n\nEvery row with its options is in the JSON file of the "
        f"same name:\n\n{measured_on(facts)}",
    ]
    return "\n\n".join(parts) + "\n"


def _section(rows: Sequence[KindRow]) -> str:
    """A setting: backbone, attack, and a row for every kind."""
    kinds: dict[str, list[KindRow]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    head = f"| kind | seeds | {' | '.join(CONDITIONS)} | verdict | images/s | MSP's |"
    lines = [head, f"|---|---:|{'---:|' * len(CONDITIONS)}---|---:|---:|"]
    lines += [_line(kind, kinds[kind]) for kind in KINDS if kind in kinds]
    changed = [
        f"`{kind}`: {' '.join(f'`{option}`' for option in found[0].options)}"
        for kind, found in sorted(kinds.items())
        if found[0].options
    ]
    options = f"\n\nOptions that are no defaults: {'; '.join(changed)}." if changed else ""
    table = "\n".join(lines)
    overrides = "".join(f", {verbatim(words)}" for words in rows[0].overrides)
    return f"""## {escaped(rows[0].config)}, scale {rows[0].scale}{overrides}

    {rows[0].command}

{_basis(rows)}

{table}{options}"""


def _basis(rows: Sequence[KindRow]) -> str:
    """What the numbers of a table are read with."""
    attacks = {row.kind: attack_words(row.attack) for row in rows if row.attack is not None}
    measured = next((row for row in rows if row.mean), None)
    sets = "no set" if measured is None else ", ".join(map(escaped, measured.mean_over))
    count = 0 if measured is None else measured.images
    return (
        f"Backbone: {escaped(grouped({row.kind: row.backbone for row in rows}))}. "
        f"Attack: {grouped(attacks) if attacks else 'none'}. "
        f"AUROC in percent over the far sets ({sets}), {plural(count, 'ID image')}: the mean over "
        "seeds, with the lowest and the highest where there are several. `images/s` is the speed "
        "of `score`, and beside it that of MSP: same images, same process, in turns."
    )


def _line(kind: str, rows: Sequence[KindRow]) -> str:
    measured = [row for row in rows if row.mean]
    reasons = sorted({row.refused for row in rows if row.refused})
    aurocs = [
        interval([row.mean[condition]["auroc"] for row in measured if row.mean])
        for condition in CONDITIONS
    ]
    speeds = [row.speed for row in measured if row.speed is not None]
    ours, theirs = (
        f"{statistics.median(values):,.0f}" if values else ""
        for values in (
            [item.images_per_second for item in speeds],
            [item.of_msp for item in speeds],
        )
    )
    told = [_verdicts(measured)] if measured else []
    told += [f"refused: {escaped(reason).replace('|', '/')}" for reason in reasons]
    cells = (f"`{kind}`", str(len(measured)), *aurocs, "; ".join(told), ours, theirs)
    return f"| {' | '.join(cells)} |"


def _verdicts(rows: Sequence[KindRow]) -> str:
    """`trusted`, or in how many runs which checks failed."""
    failed = [row.verdict for row in rows if row.verdict != TRUSTED]
    if not failed:
        return "trusted"
    names = {name: None for words in failed for name in words.partition(": ")[2].split(", ")}
    share = f" ({len(failed)} of {plural(len(rows), 'seed')})" if len(rows) > 1 else ""
    return f"**suspicious**{share}: {', '.join(names)}"

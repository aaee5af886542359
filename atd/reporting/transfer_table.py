"""The page of the paper's table 2: attacks on other methods, transferred to ATD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from atd.evaluation.results import Provenance
from atd.metrics import CONDITIONS
from atd.reporting.markdown import escaped
from atd.reporting.table_parts import by_setting, missing_words, page_of, table
from atd.reporting.wording import interval, percent, plural, radius_words

__all__ = ["ITSELF", "TransferRow", "transfers_page"]

ITSELF = "itself (white box)"
"""The row of the attack on the judged detector."""


@dataclass(frozen=True)
class TransferRow:
    """What attacks on one method, with one seed, left of each target.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        source: The method that was attacked.
        found: AUROC by condition, by target and by attack (`fgsm`, `pgd`).
        images: ID test images.
        mean_over: The far sets.
        steps: Steps of PGD.
        epsilon: Radius.
        quoted: The paper's numbers; empty where setting or data differ.
        provenance: Where the row comes from.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    source: str
    found: Mapping[str, Mapping[str, Mapping[str, float]]]
    images: int
    mean_over: tuple[str, ...]
    steps: int
    epsilon: float
    quoted: tuple[float, ...]
    provenance: Provenance


_ABOUT = """\
The paper's table 2: images that were attacked on another method are shown to ATD. An attack of that
kind that beats the attack on ATD itself, the last row, would tell of masked gradients."""

_DIFFERS = """\
The paper transfers a single step (FGSM) and reports no attack on ATD itself beside it. Here PGD is
transferred as well, and the same attacks on ATD itself stand in the last row of each table. For
each image the worse of the unchanged and the attacked one counts, so no transfer can help the
detector. Until commit 2631882 an image stayed as it was where FGSM's step did not hurt the source,
so in older rows below those columns are a little too kind. A network trained without attacks, of
the same architecture, stands in for the paper's vision transformer. No checks are run here: those
of ATD are in [table3.md](table3.md). The paper's numbers stand in the table only where data and
radius are its own (`configs/paper.yaml`)."""


def transfers_page(rows: Sequence[TransferRow], whole: Sequence[str]) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every source with every seed; at least one.
        whole: All sources that a whole table has.
    """
    tables = by_setting(rows, "table2", lambda row: row.source)
    return page_of(
        rows,
        f"# Table 2: transferred attacks\n\n{_ABOUT}",
        *(_section(head, sources, whole) for head, sources in tables.items()),
        f"## What differs from the paper\n\n{_DIFFERS}",
    )


def _section(head: str, sources: Mapping[str, Sequence[TransferRow]], whole: Sequence[str]) -> str:
    first = next(iter(sources.values()))[0]
    attacked = [name for name in CONDITIONS if name != "clean"]
    columns = ["target", "attack made on", "seeds", "clean"]
    columns += [f"{attack}: {name}" for attack in ("FGSM", "PGD") for name in attacked]
    lines = [
        _cells(target, source, sources[source])
        for target in first.found
        for source in whole
        if source in sources
    ]
    basis = (
        f"PGD-{first.steps} from one start, L-inf, epsilon {radius_words('linf', first.epsilon)}; "
        f"{plural(first.images, 'ID image')}; AUROC in percent, mean over the far sets "
        f"({', '.join(map(escaped, first.mean_over))}) and over seeds."
    )
    told = [table([*columns, "the paper"], lines, words=(0, 1, 10))]
    told[0] += missing_words(whole, list(sources))
    if ITSELF in sources and len(sources) > 1:
        told += [_strongest(target, sources) for target in first.found]
    return "\n\n".join([head, basis, *told])


def _strongest(target: str, sources: Mapping[str, Sequence[TransferRow]]) -> str:
    """The transferred attack that leaves least, beside the attack on the target itself."""

    def left(source: str) -> float:
        found = [row.found[target] for row in sources[source]]
        return min(mean(one[attack]["both"] for one in found) for attack in ("fgsm", "pgd"))

    strongest = min((source for source in sources if source != ITSELF), key=left)
    verdict = "less than" if left(ITSELF) < left(strongest) else "**not less than**"
    return (
        f"{escaped(target)}: the strongest transfer, from {escaped(strongest)}, leaves "
        f"{percent(left(strongest))} with both sides attacked, the attack on itself "
        f"{percent(left(ITSELF))}: {verdict} what any transfer leaves."
    )


def _cells(target: str, source: str, rows: Sequence[TransferRow]) -> list[str]:
    found = [row.found[target] for row in rows]
    cells = [interval([one["fgsm"]["clean"] for one in found])]
    cells += [
        interval([one[attack][name] for one in found])
        for attack in ("fgsm", "pgd")
        for name in CONDITIONS
        if name != "clean"
    ]
    cells.append(" / ".join(map(percent, rows[0].quoted)))
    return [escaped(target), escaped(source), str(len(rows)), *cells]

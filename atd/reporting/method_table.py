"""Pages of the paper's tables of methods: under its own attack and under a stronger one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atd.evaluation.results import Provenance
from atd.metrics import CONDITIONS
from atd.reporting.against_paper import against_paper
from atd.reporting.markdown import escaped
from atd.reporting.table_parts import by_setting, missing_words, page_of, short_verdict, table
from atd.reporting.wording import interval, percent, plural

__all__ = ["MethodRow", "Shown", "methods_page"]


@dataclass(frozen=True)
class Shown:
    """What a page says around its numbers.

    Attributes:
        what: The word that makes it, e.g. `table1`.
        title: Its title.
        about: What the table is.
        differs: What differs from the paper's.
        rows: All rows that a whole table has.
        published: The paper's numbers for CIFAR-10, by row.
        reference: The row that the others are compared with.
        why: By row, why it came out otherwise than in the paper.
    """

    what: str
    title: str
    about: str
    differs: str
    rows: tuple[str, ...] = ()
    published: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    reference: str = ""
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodRow:
    """What came of one method with one seed.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        method: Its name.
        options: What makes it, as options of a config.
        network: The backbone in one phrase.
        provenance: Where the row comes from.
        id_name: The ID set.
        images: ID test images.
        mean_over: The far sets.
        paper_attack: The paper's attack in words.
        plain: AUROC by condition under it.
        stronger_attack: The stronger attack in words.
        stronger: AUROC by condition under that.
        verdict: What the checks say.
        quoted: The paper's own numbers by condition; empty where setting or data differ.
        refused: Why there are no numbers; empty where there are.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    method: str
    options: tuple[str, ...]
    network: str
    provenance: Provenance
    id_name: str = ""
    images: int = 0
    mean_over: tuple[str, ...] = ()
    paper_attack: str = ""
    plain: Mapping[str, float] | None = None
    stronger_attack: str = ""
    stronger: Mapping[str, float] | None = None
    verdict: str = ""
    quoted: tuple[float, ...] = ()
    refused: str = ""


def methods_page(rows: Sequence[MethodRow], shown: Shown) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every method with every seed; at least one.
        shown: The words around them.
    """
    tables = by_setting(rows, shown.what, lambda row: row.method)
    return page_of(
        rows,
        f"# {shown.title}\n\n{shown.about}",
        *(_section(head, methods, shown) for head, methods in tables.items()),
        f"## What differs from the paper\n\n{shown.differs}",
    )


def _section(head: str, methods: Mapping[str, Sequence[MethodRow]], shown: Shown) -> str:
    rows = [row for found in methods.values() for row in found]
    ordered = [name for name in shown.rows if name in methods] or list(methods)
    quotes = any(row.quoted for row in rows)
    columns = ["method", "seeds", *CONDITIONS]
    columns += [f"stronger: {name}" for name in CONDITIONS if name != "clean"]
    columns += ["checks", *(["the paper"] if quotes else [])]
    lines = [_cells(name, methods[name], quotes) for name in ordered]
    told = table(columns, lines, words=(0, 9, 10)) + missing_words(shown.rows, list(methods))
    parts = [head, _basis(rows), told, _against(methods, shown, quotes)]
    return "\n\n".join(part for part in parts if part)


def _against(methods: Mapping[str, Sequence[MethodRow]], shown: Shown, quotes: bool) -> str:
    quoted = {name: rows[0].quoted for name, rows in methods.items()}
    found = {
        name: {key: [row.plain[key] for row in rows if row.plain] for key in CONDITIONS}
        for name, rows in methods.items()
        if any(row.plain for row in rows)
    }
    return against_paper(
        found,
        quoted if quotes else shown.published,
        images=max((row.images for rows in methods.values() for row in rows), default=0),
        comparable=quotes,
        reference=shown.reference,
        why=shown.why,
    )


def _basis(rows: Sequence[MethodRow]) -> str:
    """What the numbers of a table are read with."""
    measured = next((row for row in rows if row.plain), None)
    if measured is None:
        return "Nothing could be measured."
    network = next((row.network for row in rows if row.network != "none"), "none")
    return (
        f"ID: {escaped(measured.id_name)}, {plural(measured.images, 'test image')}; AUROC in "
        f"percent, mean over the far sets ({', '.join(map(escaped, measured.mean_over))}) and "
        "over seeds, with the lowest and the highest where there are several. "
        f"Network: {escaped(network)}. First the paper's attack: "
        f"{measured.paper_attack}; then a stronger one: {measured.stronger_attack}. The checks are "
        "those of every evaluation (docs/robustness.md)."
    )


def _cells(name: str, rows: Sequence[MethodRow], quotes: bool) -> list[str]:
    plain = [row.plain for row in rows if row.plain]
    stronger = [row.stronger for row in rows if row.stronger]
    cells = [interval([found[key] for found in plain]) for key in CONDITIONS]
    cells += [interval([found[key] for found in stronger]) for key in CONDITIONS if key != "clean"]
    told = sorted({_verdict(row) for row in rows})
    cells.append("; ".join(told))
    if quotes:
        cells.append(" / ".join(percent(number) for number in rows[0].quoted))
    return [escaped(name), str(len(plain)), *cells]


def _verdict(row: MethodRow) -> str:
    if row.refused:
        return f"refused: {escaped(row.refused)}".replace("|", "/")
    return short_verdict(row.verdict)

"""The page of the paper's table 4: attacks on the classifier and on the detector."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atd.evaluation.results import Provenance
from atd.reporting.markdown import escaped
from atd.reporting.table_parts import by_setting, missing_words, page_of, table
from atd.reporting.wording import percent, plural, radius_words

__all__ = ["TargetRow", "targets_page"]


@dataclass(frozen=True)
class TargetRow:
    """What came of one method with one seed.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        method: Its name.
        found: `accuracy` and `auroc`, `clean` and by strength and target of the attack.
        images: ID test images.
        mean_over: The far sets.
        steps: Steps of the attack.
        epsilon: Its radius.
        quoted: The paper's accuracy and AUROC by target; empty where setting or data differ.
        provenance: Where the row comes from.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    method: str
    found: Mapping[str, Mapping[str, float]]
    images: int
    mean_over: tuple[str, ...]
    steps: int
    epsilon: float
    quoted: Mapping[str, tuple[float, ...]]
    provenance: Provenance


_ABOUT = """\
The paper's table 4: does an attack that makes the classifier err also deceive the detector on the
same network, and the reverse? ID images are attacked, OOD images are not. Only an attack on the
detector itself says what the detector is worth."""

_DIFFERS = """\
The paper attacks once; beside that stand the worst of three starts of APGD. The worst iterate
counts, where the paper takes the last. ATD's networks are trained by HAT, whatever the config does,
and this package's recipe trains its copy further where the config has `atd.finetune`. OSAD's
classifier reads the denoised maps of its own network, ATD's is the head of the network that its
discriminator reads. The paper's numbers stand in the table only where data and radius are its own
(`configs/paper.yaml`). No checks are run here: those of ATD are in [table3.md](table3.md)."""

_TITLES = {
    "clean": "no attack",
    "paper classifier": "classifier",
    "paper detector": "detector",
    "stronger classifier": "classifier, stronger",
    "stronger detector": "detector, stronger",
}


def targets_page(rows: Sequence[TargetRow], whole: Sequence[str]) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every method with every seed; at least one.
        whole: All methods that a whole table has.
    """
    tables = by_setting(rows, "table4", lambda row: row.method)
    return page_of(
        rows,
        f"# Table 4: what is attacked\n\n{_ABOUT}",
        *(_section(head, methods, whole) for head, methods in tables.items()),
        f"## What differs from the paper\n\n{_DIFFERS}",
    )


def _section(head: str, methods: Mapping[str, Sequence[TargetRow]], whole: Sequence[str]) -> str:
    first = next(iter(methods.values()))[0]
    columns = ["method", "attacked", "seeds"]
    columns += ["accuracy of the classifier", "AUROC of the detector", "the paper"]
    lines = [line for name, rows in methods.items() for line in _lines(name, rows)]
    basis = (
        f"PGD-{first.steps} from one random start, and stronger APGD-{first.steps} from three, "
        f"L-inf, epsilon {radius_words('linf', first.epsilon)}; "
        f"{plural(first.images, 'ID image')}; percent, the mean over seeds; AUROC: mean over the "
        "far sets "
        f"({', '.join(map(escaped, first.mean_over))})."
    )
    told = table(columns, lines, words=(0, 1, 5)) + missing_words(whole, list(methods))
    return f"{head}\n\n{basis}\n\n{told}"


def _lines(name: str, rows: Sequence[TargetRow]) -> list[list[str]]:
    lines = []
    for key, title in _TITLES.items():
        accuracy, auroc = (
            percent(statistics.mean(row.found[key][column] for row in rows))
            for column in ("accuracy", "auroc")
        )
        quoted = rows[0].quoted.get(key.partition(" ")[2], ()) if "stronger" not in key else ()
        paper = " / ".join(map(percent, quoted))
        lines.append([escaped(name), title, str(len(rows)), accuracy, auroc, paper])
    return lines

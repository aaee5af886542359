"""The pages of detectors: all kinds on one backbone, and one kind on backbones of all trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atd.reporting.kind_rows import KindRow, sections_of
from atd.reporting.kinds import kinds_table
from atd.reporting.table_parts import missing_words, page_of

__all__ = ["detectors_page", "objectives_page"]

_KINDS = """\
Made by a command that can be run again. Within a table all rows read the same
backbone, one for each seed; `atd` is trained on it, the others are fitted where they need it. All
are attacked alike, through their own gradient or their declared stand-in, and undergo the checks of
every evaluation. A suspicious verdict is a result: a stronger attack may then leave less than the
row says.

`KIND:WORD` is a kind with other options. Three rows of confounding-label gradients differ in what
their perceptron has seen: outliers that are never tested on, all test sets but the one that is
judged, or further images of that very set. Only the first is a detector that one can have."""

_OBJECTIVES = """\
Made by a command that can be run again. How the network was trained is one axis of the papers'
tables, what is read off it the other. Here the first varies: `SCORE@TRAINING` is that score on a
backbone trained with `pretrain.objective=TRAINING`, or a small vision transformer (`vit_standard`,
`vit_adversarial`). `msp` is read off all of them but `atom`, which has a class for outliers that
`outlier_class` reads. `oe`, `aoe`, `aloe`, `halo` and `atom` see the config's outliers in
pre-training, the others do not. All are attacked alike and undergo the checks of every
evaluation.

On the digits `vit_adversarial` is no robust network: by its log a tenth of its held-out images are
right, as by chance, so its row says nothing of robust transformers. TRADES, by hand, leaves the
same network with 97 % right and none under PGD-20."""

_PAPERS = """\
No number of the papers is quoted beside ours, because in no case do setting and data agree:

* ATD: the paper has CIFAR-10 and CIFAR-100 with a full-sized backbone trained robustly on many
  further images, whole test sets and epsilon 8/255; its other methods were attacked by PGD-10.
  Ours are smaller networks, fewer images, and the epsilon that is named above each table.
* Confounding-label gradients: the paper fits the perceptron to the very anomaly that is tested, as
  the row `confounding_gradients:anomaly` does, but on full-sized networks and other sets, and its
  attacks do not know of the detector.
* S & I and GAIA: the papers judge images that nobody attacked, by full-sized networks that were
  not trained robustly; the released code of S & I lacks the paper's integral (`detector.variant`).
  What is counted seems to need such a network: `gaia_z@standard` in
  [objectives.md](objectives.md) tells unattacked images apart, `gaia_z` and
  `splitting_integrating` on the robust networks here do not.
* DAAIN: the paper monitors a segmentation network; the tables here have classifiers.
* OpenGAN: the paper attacks nothing and reads full-sized networks; its published evaluation
  normalises by the batch that is scored, which is off here (`atd.batch_statistics`).
* The scores read off a classifier (MSP, energy, ODIN, OpenMax, Mahalanobis, KNN, ViM): their papers
  report images that nobody attacked, and networks that were not trained robustly."""

_PAPERS_OBJECTIVES = """\
No number of the papers is quoted beside ours: theirs are full-sized networks on CIFAR-10, other
outliers and epsilon 8/255 (ALOE: 1/255 in its own paper), attacked by PGD-10 in the ATD paper's
table, some on one side only (ATOM). Which training is robust at all can be compared, the values
cannot."""


def detectors_page(rows: Mapping[str, KindRow], order: Sequence[str]) -> str:
    """All kinds on one backbone, in Markdown.

    Args:
        rows: What came of every row with every seed; at least one.
        order: Names of rows as they are to be shown.
    """
    return _page(
        "Every kind of detector under one attack",
        _KINDS,
        *sections_of(rows.values(), order, "detectors"),
        *_missing(rows, order),
        f"## The kinds\n\n{kinds_table()}",
        f"## The papers' own tables\n\n{_PAPERS}",
        rows=rows,
    )


def objectives_page(rows: Mapping[str, KindRow], order: Sequence[str]) -> str:
    """Backbones of all trainings, in Markdown.

    Args:
        rows: What came of every row with every seed; at least one.
        order: Names of rows as they are to be shown.
    """
    return _page(
        "Every way to train the backbone under one attack",
        _OBJECTIVES,
        *sections_of(rows.values(), order, "objectives"),
        *_missing(rows, order),
        f"## The papers' own tables\n\n{_PAPERS_OBJECTIVES}",
        rows=rows,
    )


def _missing(rows: Mapping[str, KindRow], order: Sequence[str]) -> list[str]:
    """Says which rows no table has; refused ones have one, with the reason."""
    words = missing_words(order, [row.name for row in rows.values()]).strip()
    return [words] if words else []


def _page(title: str, introduction: str, *parts: str, rows: Mapping[str, KindRow]) -> str:
    return page_of(rows.values(), f"# {title}", introduction, *parts)

"""The page on pictures as users have them: how good the product is on each ID set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atd.evaluation.results import Provenance
from atd.reporting.markdown import escaped
from atd.reporting.table_parts import by_setting, page_of
from atd.reporting.wording import interval, percent, radius_words

__all__ = ["OwnRow", "own_images_page"]


@dataclass(frozen=True)
class OwnRow:
    """What came of one ID set with one seed.

    Attributes:
        config: The config file.
        scale: The scale.
        overrides: Options given on the command line.
        name: Name of the ID set.
        classes: Its classes.
        images: ID training images.
        image_size: Side in pixels.
        network: The backbone in a phrase.
        steps: Steps of helper, pre-training and ATD.
        budget: `run.budget`; empty where there was none.
        seconds: What the run took.
        accuracy: Of `helper`, `plain` and `robust` classifier on ID test images.
        far: Mean AUROC over the far sets by condition; empty where there is none.
        unseen: Likewise over the config's own test sets, kinds that are not trained on.
        near: Likewise over held-out classes.
        sets: AUROC of every set by condition.
        tier: The attack's tier.
        epsilon: Its radius.
        judged: ID test images that were attacked.
        verdict: What the checks say.
        provenance: Where the row comes from.
        plain_steps: Steps of the plain classifier; 0 where an older row does not tell them.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    name: str
    classes: int
    images: int
    image_size: int
    network: str
    steps: tuple[int, ...]
    budget: str
    seconds: float
    accuracy: Mapping[str, float]
    far: Mapping[str, float]
    unseen: Mapping[str, float]
    near: Mapping[str, float]
    sets: Mapping[str, Mapping[str, float]]
    tier: str
    epsilon: float
    judged: int
    verdict: str
    provenance: Provenance
    plain_steps: int = 0


_ABOUT = """\
`configs/folder.yaml` on image folders as users have them, with no outliers given: ID classes,
classes held out of the same folder (near), sets of other photographs (far), and bundled kinds that
are not trained on (unseen). Percent; mean over seeds, lowest and highest in brackets where there
are several. Steps are those of helper, pre-training and ATD. `plain` is a classifier of the same
size trained without attacks, outside of the budget: for three times the steps of the helper where
there is one, and for as many as pre-training takes where there is none. Rows that do not tell its
steps are older: without a helper, `plain` took 2,400 there, whatever pre-training took. `both` is
the AUROC where ID and OOD images are attacked. *target*: what was asked of this product; that a
helper comes within 3 of `plain` cannot be judged where none is trained."""

_FOLDERS = """\
## The folders

`--data DIR` holds class folders of each ID set in `DIR/NAME/id`, classes held out of it in
`DIR/NAME/near`, and sets of other photographs in `DIR/far/SET`; a far set that is called like the
ID set is not tested against it. As far as it was noted, these classes are held out of the sets that
the documents of this package are made with: of TrashNet metal; of elpv `poly_defective` in the
table with adversarial training and another one, which was not noted, in that with HAT, so that
their near columns cannot be compared; of flowers5 tulip; of objects (150 images of each of eight
classes of CIFAR-10) ship and truck; of Imagenette it was not noted."""

_TITLES = (
    *("ID set", "network, steps", "budget, taken", "accuracy: helper / plain / robust", "seeds"),
    *("far clean", "far both", "unseen clean", "unseen both", "near clean", "near both"),
    *("tier", "checks"),
)
_TARGETS = (
    *("*target*", "", "30m on two cores", "helper within 3 of plain", "3"),
    *("95.0", "75.0", "", "", "80.0", "", "standard", "passed"),
)


def own_images_page(rows: Sequence[OwnRow]) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every ID set with every seed; at least one.
    """
    tables = by_setting(rows, "own_images --data DIR", lambda row: row.name)
    sections = [_section(head, sets) for head, sets in tables.items()]
    return page_of(rows, f"# Your own images\n\n{_ABOUT}", *sections, _FOLDERS)


def _section(head: str, sets: Mapping[str, Sequence[OwnRow]]) -> str:
    cells: list[Sequence[str]] = [_TITLES, ["---"] * len(_TITLES), _TARGETS]
    cells += [_cells(name, rows) for name, rows in sets.items()]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    first = next(iter(sets.values()))[0]
    basis = f"Attacks: L-inf, epsilon {radius_words('linf', first.epsilon)}."
    details = "\n".join(_details(name, rows) for name, rows in sets.items())
    return f"{head}\n\n{basis}\n\n{lines}\n\nSet by set, clean / both:\n\n{details}"


def _cells(name: str, rows: Sequence[OwnRow]) -> list[str]:
    first = rows[0]
    kinds = ("helper", "plain", "robust")
    accuracies = [
        interval([row.accuracy[kind] for row in rows if kind in row.accuracy]) for kind in kinds
    ]
    aurocs = [
        interval([group[key] for group in groups if group])
        for groups in ([r.far for r in rows], [r.unseen for r in rows], [r.near for r in rows])
        for key in ("clean", "both")
    ]
    minutes = " ".join(f"{row.seconds / 60:.1f}" for row in rows)
    steps = [_steps(row) for row in rows]
    tiers = [f"{row.tier}, {row.judged} ID images" for row in rows]
    return [
        f"{escaped(name)} ({first.classes} classes, {first.images} images)",
        f"{first.image_size} px, {first.network}, {', '.join(dict.fromkeys(steps))}",
        f"{first.budget or 'none'}, {minutes} min",
        " / ".join(accuracies),
        str(len(rows)),
        *aurocs,
        "; ".join(dict.fromkeys(tiers)),
        "; ".join(dict.fromkeys(escaped(row.verdict) for row in rows)),
    ]


def _steps(row: OwnRow) -> str:
    helper, *others = row.steps
    # Without HAT there is no helper, whatever its steps would be.
    told = "/".join(map(str, [helper if "helper" in row.accuracy else "none", *others]))
    return f"{told} (plain {row.plain_steps})" if row.plain_steps else told


def _details(name: str, rows: Sequence[OwnRow]) -> str:
    sets = dict.fromkeys(key for row in rows for key in row.sets)
    words = []
    for key in sets:
        clean, both = (
            percent(sum(row.sets[key][of] for row in rows if key in row.sets) / len(rows))
            for of in ("clean", "both")
        )
        words.append(f"{escaped(key)} {clean} / {both}")
    return f"* {escaped(name)}: {', '.join(words)}"

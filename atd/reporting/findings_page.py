"""The page that tells how much of ATD's published robustness is real."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atd.evaluation.results import Provenance
from atd.metrics import CONDITIONS
from atd.reporting.markdown import escaped, verbatim
from atd.reporting.table_parts import by_setting, missing_words, page_of, short_verdict, table
from atd.reporting.wording import interval, member_words, percent, plural

__all__ = ["ATTACKS", "FindingRow", "Group", "both_attacked", "by_recipe", "findings_page"]


@dataclass(frozen=True)
class FindingRow:
    """What came of one recipe with one seed.

    Attributes:
        config: The config file of its setting.
        scale: The scale of its setting.
        overrides: Options given on the command line.
        recipe: Its name.
        options: What it changes in the config.
        attacks: AUROC by condition that each attack leaves: `released`, `paper`, `strong`.
        paper_attack: What `paper` does, in words.
        strong_members: The attacks of `strong`.
        verdict: What the checks say.
        images: ID test images.
        mean_over: The far sets.
        zero_gradient: Share of images at which the gradient of the released `loss`, and that of
            the `logit`, is exactly zero.
        flat_loss: Share of logits at which that of the loss is, by precision.
        saturated: Share of logits whose sigmoid is rounded to 0 or 1, by precision.
        largest_logit: Of unattacked images, without its sign.
        edges: Edges of `histogram`.
        histogram: Shares of the unattacked ID and OOD images by logit; outliers in the last bins.
        provenance: Where the row comes from.
    """

    config: str
    scale: str
    overrides: tuple[str, ...]
    recipe: str
    options: tuple[str, ...]
    attacks: Mapping[str, Mapping[str, float]]
    paper_attack: str
    strong_members: tuple[str, ...]
    verdict: str
    images: int
    mean_over: tuple[str, ...]
    zero_gradient: Mapping[str, float]
    flat_loss: Mapping[str, float]
    saturated: Mapping[str, float]
    largest_logit: float
    edges: tuple[float, ...]
    histogram: Mapping[str, tuple[float, ...]]
    provenance: Provenance


Group = dict[str, list[FindingRow]]
"""Rows of one setting by recipe."""

ATTACKS = {
    "released": "released attack",
    "paper": "PGD on the logit",
    "strong": "strong tier",
}

_INTRODUCTION = """\
ATD (Azizmalayeri et al., NeurIPS 2022) tells images of known kinds (in-distribution, ID) from all
others (out-of-distribution, OOD), and is trained so that this holds when somebody changes every
pixel a little to deceive it. Its paper reports an AUROC of 69.3 % on CIFAR-10 with both sides
attacked; 50 % is guessing. Two questions stand before that number: was the detector trained as the
paper says, and was the attack that judged it a strong one? Here both are measured."""

_DIFFERENCES = """\
The released code (github.com/rohban-lab/ATD at a5a5ac1) differs from the paper's text. Of that
`recipe=published` repeats:

* The generator is never trained: its features are cut off from their graph before they reach the
  loss. It makes them in another mode of batch normalisation than the paper's equation 9 implies.
* Training and evaluation attack the cross-entropy of a sigmoid, D(x) = sigmoid(-logit). Where the
  sigmoid is rounded to 1 the gradient is exactly zero, and the image is not attacked: in float32
  from a logit of about -17 on for ID images, in bfloat16 from about -7 on.
* Batch normalisation takes running statistics while images are attacked, and those of a mixture of
  ID images, outliers and generated features while the discriminator learns from them.
* The best epoch is chosen on images that nobody attacked.
* Its evaluation starts once, takes the last iterate in place of the worst, and ranks the values of
  the sigmoid, which tie where they are rounded.

It does not repeat what the code does to images (blue and red swapped in some sets, ID images alone
not augmented), its learning rates, and its backbone, which had 500,000 further images."""

_ALT = {
    "auroc.png": "AUROC with both sides attacked, for each recipe and each attack",
    "logits.png": "Histograms of unattacked logits and where the released loss goes flat",
}

_READING = """\
*Released attack*: that of the released code, described below. *PGD on the logit*: the paper's
steps and step size on the raw logit, the worst iterate counts. *Strong tier*: {strong};
images found on the other recipes' detectors are transferred, and the worst of all counts. All four
recipes start from the backbone of their seed, which HAT has trained (`this package` trains its copy
further where the config has `atd.finetune`); AUROC in percent, mean over the far sets ({sets})
with {images} a set at most, and over seeds, with the lowest and the highest where there
are several."""

_DIFFERS = """\
The paper's 69.3 % is not in the tables: it belongs to CIFAR-10, eight other OOD sets, 8/255, and a
larger backbone trained on further images. The tables say what the recipes are worth against one
another, on the images named above them, and how far the attacks lie apart; they do not say what
the paper's own weights would leave of 69.3 % under a stronger attack."""


def findings_page(
    rows: Sequence[FindingRow], pictures: Sequence[str], whole: Sequence[str] = ()
) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every recipe with every seed; at least one.
        pictures: Files beside the page.
        whole: All recipes that a whole page has.
    """
    settings = by_recipe(rows)
    shown = "\n\n".join(f"![{_ALT[name.rpartition('_')[2]]}]({name})" for name in pictures)
    return page_of(
        rows,
        f"# How much of ATD's published robustness is real?\n\n{_INTRODUCTION}",
        *(_section(head, group, whole) for head, group in settings.items()),
        shown,
        f"## What the released code does\n\n{_DIFFERENCES}",
        f"## What differs from the paper\n\n{_DIFFERS}",
    )


def by_recipe(rows: Sequence[FindingRow]) -> dict[str, Group]:
    """Rows by the heading of their setting, and there by recipe."""
    return by_setting(rows, "findings", lambda row: row.recipe)


def _section(head: str, group: Group, whole: Sequence[str]) -> str:
    first = next(iter(group.values()))[0]
    reading = _READING.format(
        strong=" + ".join(map(member_words, first.strong_members)),
        sets=", ".join(map(escaped, first.mean_over)),
        images=plural(first.images, "image"),
    )
    said = "\n".join(f"* {_sentence(name, rows)}" for name, rows in group.items())
    return f"""{head}

{said}

{_attack_table(group)}{missing_words(whole, list(group))}

{reading} Radius: {first.paper_attack}.

{_saturation_table(group)}

*Zero gradient*: share of unattacked test images at which the gradient of the released loss, and
that of the raw logit, is exactly zero. *Flat loss*: the same for the loss alone, from the logits,
in two precisions. *Saturated*: share of images whose sigmoid is rounded to exactly 0 or 1."""


def _sentence(name: str, rows: Sequence[FindingRow]) -> str:
    """What the three attacks leave with both sides attacked, and how they differ."""
    released, paper, strong = (both_attacked(rows, attack) for attack in ATTACKS)
    return (
        f"**{escaped(name)}**: with both sides attacked its own kind of attack leaves "
        f"{percent(released)} %, PGD on the raw logit {percent(paper)} %, the strong tier "
        f"{percent(strong)} %: {100 * (released - strong):.1f} points less than the first."
    )


def both_attacked(rows: Sequence[FindingRow], attack: str) -> float:
    """AUROC that an attack leaves with both sides attacked, mean over seeds."""
    return statistics.mean(row.attacks[attack]["both"] for row in rows)


def _attack_table(group: Group) -> str:
    conditions = [name for name in CONDITIONS if name != "clean"]
    head = [f"{title}: {name}" for title in ATTACKS.values() for name in conditions]
    head = ["recipe", "options", "seeds", "clean", *head, "verdict"]
    lines = []
    for name, rows in group.items():
        cells = [interval([row.attacks["strong"]["clean"] for row in rows])]
        cells += [
            interval([row.attacks[attack][condition] for row in rows])
            for attack in ATTACKS
            for condition in conditions
        ]
        options = verbatim(" ".join(rows[0].options)) if rows[0].options else ""
        cells.append("; ".join(sorted({short_verdict(row.verdict) for row in rows})))
        lines.append([escaped(name), options, str(len(rows)), *cells])
    return table(head, lines, words=(0, 1, len(head) - 1))


def _saturation_table(group: Group) -> str:
    head = ["recipe", "zero gradient: released loss", "of the logit", "flat loss: float32"]
    head += ["bfloat16", "saturated: float32", "bfloat16", "largest logit"]
    lines = []
    for name, rows in group.items():
        cells = [
            *(interval([row.zero_gradient[key] for row in rows]) for key in ("loss", "logit")),
            *(interval([row.flat_loss[key] for row in rows]) for key in ("float32", "bfloat16")),
            *(interval([row.saturated[key] for row in rows]) for key in ("float32", "bfloat16")),
            f"{max(row.largest_logit for row in rows):.1f}",
        ]
        lines.append([escaped(name), *cells])
    return table(head, lines)

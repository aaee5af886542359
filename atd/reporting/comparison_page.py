"""What the page that compares several detectors says, from their results."""

from __future__ import annotations

from collections.abc import Mapping

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Results
from atd.metrics import CONDITIONS
from atd.reporting.certificate import smoothing_words
from atd.reporting.document import Block, Paragraph, Picture, Section, Table, Text, strong
from atd.reporting.wording import (
    attack_words,
    curve_words,
    fraction_255,
    grouped,
    mean_words,
    percent,
    plural,
    stronger_words,
    verdict_words,
)

__all__ = ["comparison_page", "curve_note", "marked"]

Found = Mapping[str, Results]


def comparison_page(found: Found) -> list[Section]:
    """The page that compares detectors.

    Args:
        found: Results of comparable evaluations, by label.

    Returns:
        The sections in reading order; robust numbers never stand without attack and verdict.
    """
    return [
        _headline(found),
        _sets_section(found),
        _curves_section(found),
        *_certified_section(found),
        _thresholds_section(found),
    ]


def marked(label: str, results: Results) -> str:
    """A label that says when a detector's robustness numbers are suspicious."""
    return label if results.verdict == TRUSTED else f"{label} (suspicious)"


def curve_note(found: Found) -> str:
    """Attacks and verdicts behind the curves."""
    return _note({label: curve_words(item, "epsilon") for label, item in found.items()}, found)


def _headline(found: Found) -> Section:
    first = next(iter(found.values()))
    columns = []
    for condition in CONDITIONS:
        values = {label: item.mean[condition]["auroc"] for label, item in found.items()}
        columns.append(_column(values, set(found) if condition == "clean" else _trusted(found)))
    rows: list[list[Text]] = [
        [label, *(column[label] for column in columns), verdict_words(results)]
        for label, results in found.items()
    ]
    head = ["detector", *CONDITIONS, "verdict"]
    meaning = "; ".join(f"{condition}: {words}" for condition, words in CONDITIONS.items())
    text = (
        f"AUROC in %, mean of {mean_words(first)}; ID: {first.id.name}. {meaning}. Bold: the "
        "best of a column; under attack, the best whose numbers can be trusted."
    )
    table = Table(head, rows, left=(0, len(head) - 1))
    blocks: list[Block] = [table, Paragraph(text), *_warnings(found), _basis(found)]
    return Section(f"Comparison of {plural(len(found), 'detector')}", blocks)


def _warnings(found: Found) -> list[Block]:
    """What the checks found beyond a weak attack, and what was left out."""
    lines = [
        Paragraph((strong(label), f": {words}."))
        for label, results in found.items()
        if (words := stronger_words(results))
    ]
    missing = {label: "; ".join(results.left_out) for label, results in found.items()}
    missing = {label: words for label, words in missing.items() if words}
    return [*lines, *([Paragraph(f"Left out: {grouped(missing)}.")] if missing else [])]


def _sets_section(found: Found) -> Section:
    rows: list[list[Text]] = []
    for name in next(iter(found.values())).datasets:
        values = {label: item.datasets[name].both["auroc"] for label, item in found.items()}
        rows.append([name, *_column(values, _trusted(found)).values()])
    head = ["OOD set", *(marked(label, results) for label, results in found.items())]
    text = "Bold: the best whose numbers can be trusted."
    blocks: list[Block] = [Table(head, rows), Paragraph(text), _basis(found)]
    return Section("Set by set, all images attacked, AUROC (%)", blocks)


def _curves_section(found: Found) -> Section:
    alt = f"AUROC against the attack radius, all detectors. {curve_note(found)}"
    return Section("AUROC against epsilon, all images attacked", [Picture("epsilon.png", alt)])


def _certified_section(found: Found) -> list[Section]:
    """Certified AUROC of the detectors that have a certificate; none where nobody has."""
    proofs = {label: item.certificate for label, item in found.items() if item.certificate}
    if not proofs:
        return []
    void = {label for label in proofs if found[label].certificate_is_void}
    first = next(iter(proofs.values()))
    columns = [{label: proof.smoothed for label, proof in proofs.items()}] + [
        {label: proof.mean[row].both for label, proof in proofs.items()}
        for row, point in enumerate(first.mean)
        if point.radius
    ]
    shown = [_column(column, proofs.keys() - void) for column in columns]
    head = ["detector", "no attack"] + [
        f"{point.radius:g} ({fraction_255(point.linf)})" for point in first.mean if point.radius
    ]
    rows: list[list[Text]] = [
        [f"{label} (void)" if label in void else label, *(column[label] for column in shown)]
        for label in proofs
    ]
    text = (
        "AUROC of the smoothed score that no attack on both sides can take away, by L2 radius (in "
        f"brackets the largest L-inf ball inside); {smoothing_words(first)}. Void: the score of an "
        "image depends on other images. Bold: the best of a column that is not void."
    )
    return [Section("Certified AUROC (%)", [Table(head, rows), Paragraph(text)])]


def _thresholds_section(found: Found) -> Section:
    rows: list[list[Text]] = []
    for label, results in found.items():
        limit = results.threshold
        accepted = (limit.tpr_clean, limit.tpr_attacked, limit.fpr_clean, limit.fpr_attacked)
        shares = [f"{percent(share)} %" for share in accepted]
        rows.append([label, f"{limit.value:.4g}", *shares, results.verdict])
    kinds = ("ID, clean", "ID, attacked", "OOD, clean", "OOD, attacked")
    table = Table(["detector", "threshold", *kinds, "verdict"], rows, left=(0, 6))
    text = "Shares of images that each detector accepts at its own stored threshold."
    return Section("Thresholds and verdicts", [Paragraph(text), table, _basis(found)])


def _basis(found: Found) -> Paragraph:
    attacks = {label: attack_words(results.attack) for label, results in found.items()}
    return Paragraph(_note(attacks, found), aside=True)


def _note(attacks: Mapping[str, str], found: Found) -> str:
    verdicts = {label: verdict_words(results) for label, results in found.items()}
    return f"Attack: {grouped(attacks)}. Verdict: {grouped(verdicts)}."


def _trusted(found: Found) -> set[str]:
    return {label for label, results in found.items() if results.verdict == TRUSTED}


def _column(values: Mapping[str, float], eligible: set[str]) -> dict[str, Text]:
    """A column by label, the best of the eligible values bold (all that read the same)."""
    best = max((values[label] for label in eligible), default=-1.0)
    shown = {label: percent(value) for label, value in values.items()}
    return {
        label: strong(text) if label in eligible and text == percent(best) else text
        for label, text in shown.items()
    }

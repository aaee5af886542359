"""The parts of a report for those who want to know: attack, checks, all metrics, origin."""

from __future__ import annotations

from collections.abc import Sequence

from atd.evaluation.results import Dataset, Means, Results
from atd.metrics import CONDITIONS, MeanMetrics
from atd.reporting.document import (
    Block,
    Command,
    Paragraph,
    Section,
    Table,
    Text,
    code,
    outcome,
    strong,
)
from atd.reporting.wording import (
    attack_words,
    basis,
    fraction_255,
    mean_words,
    member_words,
    percent,
)

__all__ = ["attack_section", "checks_section", "metrics_section", "origin"]

_METRICS = ("FPR95 (ID)", "FPR95 (OOD)", "AUPR-in", "AUPR-out", "detection error")


def attack_section(results: Results) -> Section:
    """What was done to every image, and which part of it found the worst scores."""
    attack = results.attack
    text = (
        "Every image is attacked on the detector's raw score by each of the following; the worst "
        "score over all of them, over every iterate and every start, counts. ",
        code("-100 x 5"),
        " stands for 100 steps from each of 5 starts.",
    )
    shares = results.strongest.items()
    rows = [[member_words(name), f"{percent(share)} %"] for name, share in shares]
    table = Table(["attack", "found the worst score of"], rows)
    passes = attack.passes
    facts = [
        attack_words(attack),
        f"Tier: {attack.tier}",
        f"Step size: {attack.step_size:.4g}",
        f"Passes per image: {passes.forward:,} forward, {passes.backward:,} backward",
    ]
    if attack.draws > 1:
        facts.append(f"The detector is randomised: scores are means of {attack.draws} draws")
    return Section("The attack", [Paragraph(text), table, Paragraph(". ".join(facts) + ".", True)])


def checks_section(results: Results) -> Section:
    """Every check with its number and meaning; those that failed come first."""
    checks = sorted(results.checks.items(), key=lambda item: item[1].passed)
    rows: list[list[Text]] = [
        [
            outcome(check.passed),
            code(name),
            _value(check.value, in_levels=_has_levels(name, results)),
            check.detail,
        ]
        for name, check in checks
    ]
    text = ("A weak attack makes any detector look robust. Verdict: ", strong(results.verdict))
    table = Table(["", "check", "value", "what it means"], rows, left=(0, 1, 2, 3), prose=True)
    return Section("Checks", [Paragraph((*text, ".")), table])


def _has_levels(name: str, results: Results) -> bool:
    return "epsilon" in name and results.attack.norm == "linf"


def _value(value: float | Sequence[Sequence[float]], *, in_levels: bool) -> str:
    if isinstance(value, Sequence):
        return ", ".join(
            f"{fraction_255(at) if in_levels else format(at, '.4g')}: {auroc:.3f}"
            for at, auroc in value
        )
    return f"{value:.4g}"


def metrics_section(results: Results) -> Section:
    """Every metric of every set under every condition."""
    items: dict[str, Means | Dataset] = dict(results.datasets)
    items[f"mean of {mean_words(results)}"] = results.mean
    rows = [
        [
            name if condition == "clean" else "",
            condition,
            percent(item[condition]["auroc"]),
            *(percent(share) for share in _shares(item[condition])),
        ]
        for name, item in items.items()
        for condition in CONDITIONS
    ]
    text = (
        "FPR95 (ID): share of OOD images accepted when 95 % of ID images are. FPR95 (OOD): share "
        "of ID images flagged when 95 % of OOD images are. AUPR: area under precision-recall with "
        "ID or OOD as the positive class. Detection error: the smallest (FPR + FNR) / 2 over all "
        "thresholds."
    )
    table = Table(["OOD set", "attacked", "AUROC", *_METRICS], rows, left=(0, 1))
    return Section("Every metric (%)", [table, Paragraph(text), Paragraph(basis(results), True)])


def _shares(values: MeanMetrics) -> list[float]:
    """The metrics of `_METRICS`."""
    return [
        values["fpr95_id"],
        values["fpr95_ood"],
        values["aupr_in"],
        values["aupr_out"],
        values["detection_error"],
    ]


def origin(results: Results) -> Section:
    """The command that was given, where it is known, and everything else it depends on."""
    facts = results.provenance
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    rows = {
        "kind": results.detector.kind,
        "protocol": results.protocol,
        "detector SHA-256": results.detector.sha256,
        "commit": facts.commit or "not from a git checkout",
        "config SHA-256": facts.config_sha256 or "no config",
        "parameters": f"{results.detector.parameters:,}",
        "seed": str(facts.seed),
        "hardware": facts.hardware,
        "versions": versions,
        "took": f"{facts.seconds:,} s",
        "date": facts.date,
    }
    files = ("All numbers are in ", code("results.json"), ", every image's raw scores in ")
    blocks: list[Block] = [
        *([Command(facts.command)] if facts.command else []),
        Table(["", ""], list(rows.items()), left=(0, 1)),
        Paragraph((*files, code("scores.npz"), ".")),
    ]
    return Section("Where this comes from", blocks)

"""The document of the frauds: who was caught by what, and who was suspected for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from atd.evaluation.results import AttackFacts
from atd.records import from_json
from atd.reporting.wording import attack_words
from benchmarks.frauds.honest import HONEST, TRAINED
from benchmarks.frauds.planted import FRAUDS, describe

__all__ = ["caught_by", "page"]

Record = Mapping[str, Any]

_DROP = 0.05
"""A strong attack that takes this much AUROC away has found what the first one missed."""


def caught_by(record: Record) -> str:
    """What caught a fraud; empty if nothing did."""
    if record["refused"]:
        return f"refused: {record['refused']}"
    if record["failed"]:
        return ", ".join(record["failed"])
    strong = record.get("strong")
    if strong is None:
        return ""
    if strong["refused"] or strong["failed"]:
        return f"strong tier: {caught_by(strong)}"
    before, after = record["mean"]["both"], strong["mean"]["both"]
    return f"strong tier: {before:.3f} -> {after:.3f}" if before - after >= _DROP else ""


def page(found: Mapping[str, Record], origin: str, facts: Record) -> str:
    """The document in Markdown.

    Args:
        found: What `python -m benchmarks.frauds` recorded, by key.
        origin: The config file.
        facts: Commit, hardware and date.
    """
    records = {key: record for key, record in found.items() if record["name"] in FRAUDS}
    honest = {name: found[name] for name in HONEST if name in found}
    attacks = [record for record in found.values() if not record["refused"]]
    basis = ""
    if attacks:
        some = attacks[0]
        basis = (
            f"{some['images']} ID images and the sets {', '.join(some['sets'])} with as many each; "
            f"{attack_words(from_json(AttackFacts, some['attack']))}."
        )
    sections = [
        "# Planted frauds",
        "Detectors that only look robust, each a trained detector with one step broken, and honest "
        "detectors. An evaluation must suspect every fraud and no honest detector. `undefended` "
        "was trained without any attack; `seed 0` is the recipe of the config. A fraud that "
        "passes all checks is attacked again at the strong tier, which catches it if the AUROC "
        f"falls by {_DROP} or more. Noise need not raise the number, since an attack profits from "
        "luck too; it is a fraud because there is no one score to attack.",
        f"AUROC, mean over the far sets; `both`: ID and OOD images attacked. {basis}",
        _summary(records, honest),
        *(_frauds(base, records, found) for base in _bases(records)),
        _honest(honest),
        _checks(list(records.values()), list(honest.values())),
        f"Made by `python -m benchmarks.frauds --config {origin}`; values of all checks are in the "
        f"JSON file of the same name, with the commit of each row. Last row: commit "
        f"{facts['commit']}, {facts['hardware']}, {facts['date']}.",
    ]
    return "\n\n".join(sections) + "\n"


def _bases(records: Mapping[str, Record]) -> list[str]:
    return list(dict.fromkeys(record["base"] for record in records.values()))


def _summary(records: Mapping[str, Record], honest: Mapping[str, Record]) -> str:
    missed = [key for key, record in records.items() if not caught_by(record)]
    suspected = [name for name, record in honest.items() if caught_by(record)]
    return (
        f"**{len(records) - len(missed)} of {len(records)} frauds caught; "
        f"{len(suspected)} of {len(honest)} honest detectors suspected.** "
        f"Not caught: {', '.join(missed) or 'none'}. Suspected: {', '.join(suspected) or 'none'}."
    )


def _frauds(base: str, records: Mapping[str, Record], found: Mapping[str, Record]) -> str:
    own = {record["name"]: record for record in records.values() if record["base"] == base}
    honest = _both(found[base]) if base in found else "-"
    rows = [
        [name, describe(name), _clean(own[name]), _both(own[name]), honest, _verdict(own[name])]
        for name in FRAUDS
        if name in own
    ]
    head = ["fraud", "what it does", "clean", "both", "honest base, both", "caught by"]
    return f"## Frauds on `{base}`\n\n" + _markdown(head, rows)


def _honest(honest: Mapping[str, Record]) -> str:
    rows = [
        [
            name,
            f"`{' '.join(TRAINED[name])}`" if TRAINED.get(name) else _origin(name),
            _clean(record),
            _both(record),
            caught_by(record) or "none",
        ]
        for name, record in honest.items()
    ]
    return "## Honest detectors\n\n" + _markdown(
        ["detector", "options", "clean", "both", "false alarms"], rows
    )


def _origin(name: str) -> str:
    return "(the config)" if name in TRAINED else "baseline on the backbone of `seed 0`"


def _checks(frauds: Sequence[Record], honest: Sequence[Record]) -> str:
    caught, alarmed = (
        Counter(check for record in records for check in record["failed"])
        for records in (frauds, honest)
    )
    alone = Counter(record["failed"][0] for record in frauds if len(record["failed"]) == 1)
    names = list(dict.fromkeys(name for record in honest for name in record.get("checks", ())))
    rows = [[name, str(caught[name]), str(alone[name]), str(alarmed[name])] for name in names]
    head = ["check", "frauds it caught", "of them alone", "honest detectors it suspected"]
    return "## Checks\n\n" + _markdown(head, rows)


def _clean(record: Record) -> str:
    return f"{record['mean']['clean']:.3f}" if "mean" in record else "-"


def _both(record: Record) -> str:
    return f"{record['mean']['both']:.3f}" if "mean" in record else "-"


def _verdict(record: Record) -> str:
    return caught_by(record) or "**nothing**"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

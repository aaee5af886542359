"""Numbers as people read them, the same in the page, the pictures and the terminal."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from atd.attacks.suite import KINDS, kind_of
from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import AttackFacts, Dataset, Means, Results
from atd.evaluation.tiers import weaker_than_standard
from atd.metrics import CONDITIONS

__all__ = [
    "attack_words",
    "aurocs",
    "basis",
    "curve_basis",
    "curve_words",
    "fraction_255",
    "grouped",
    "interval",
    "mean_words",
    "measured_on",
    "member_words",
    "percent",
    "plural",
    "radius_words",
    "stronger_words",
    "threshold_words",
    "verdict_words",
]

_NORMS = {"linf": "L-inf", "l2": "L2"}


def percent(share: float) -> str:
    """A share in percent with one decimal, without the sign: 0.9432 -> 94.3."""
    return f"{100 * share:.1f}"


def interval(shares: Sequence[float]) -> str:
    """Mean of shares in percent, and lowest to highest where there are several."""
    if not shares:
        return ""
    mean = percent(statistics.mean(shares))
    if len(shares) == 1:
        return mean
    return f"{mean} [{percent(min(shares))}, {percent(max(shares))}]"


def fraction_255(epsilon: float) -> str:
    """A radius on the [0, 1] scale in pixel levels: 0.031372 -> 8/255."""
    return f"{epsilon * 255:.4g}/255"


def plural(count: int, noun: str) -> str:
    """1 restart, 5 restarts, 10,000 images."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def radius_words(norm: str, epsilon: float) -> str:
    """A radius in the unit people use for its norm: `8/255 (0.0314)`, or `0.5` for L2."""
    return f"{fraction_255(epsilon)} ({epsilon:.4f})" if norm == "linf" else f"{epsilon:g}"


def member_words(member: str) -> str:
    """One attack with its steps and random starts: `apgd-100x5` -> `APGD-100 x 5`."""
    name, steps, restarts = _parts(member)
    return f"{_title(name)}-{steps} x {restarts}" if steps else name


def attack_words(attack: AttackFacts) -> str:
    """The attack of a result in one phrase, e.g. `PGD-100 x 1, L-inf, epsilon 8/255 (0.0314)`.

    Args:
        attack: The `attack` block of a result. Older ones name their members without steps and
            restarts, which then are those of the whole attack.
    """
    members = [
        member if _parts(member)[1] else f"{member}-{attack.steps}x{attack.restarts}"
        for member in attack.members
    ]
    norm = attack.norm
    radius = radius_words(norm, attack.epsilon)
    return f"{' + '.join(map(member_words, members))}, {_NORMS.get(norm, norm)}, epsilon {radius}"


def curve_words(results: Results, varied: Literal["epsilon", "steps"]) -> str:
    """The attack behind a curve, where one of its numbers varies, and on how many images."""
    attack, curves = results.attack, results.curves
    norm, images = attack.norm, curves.images
    name, _, restarts = _parts(curves.attack)
    values = [point[varied] for point in (curves.epsilon if varied == "epsilon" else curves.steps)]
    if varied == "steps":
        what = f"{_title(name)} with {min(values)} to {max(values)} steps x {restarts}"
        radius = radius_words(norm, attack.epsilon)
    else:
        what, radius = member_words(curves.attack), f"up to {radius_words(norm, max(values))}"
    where = f"{images.id:,} ID and {images.ood:,} OOD images"
    return f"{what}, {_NORMS.get(norm, norm)}, epsilon {radius}, on {where}"


def verdict_words(results: Results) -> str:
    """The verdict in a few words; the names of failed checks stand in the full one."""
    checks = results.checks
    failed = sum(not check.passed for check in checks.values())
    if results.verdict == TRUSTED:
        return f"{TRUSTED} ({plural(len(checks), 'check')} passed)"
    return f"SUSPICIOUS ({failed} of {plural(len(checks), 'check')} failed)"


def stronger_words(results: Results) -> str:
    """What the strongest attack of the checks found, where the tier is weaker than `standard`."""
    found = results.stronger
    if found is None or not weaker_than_standard(results.attack.members):
        return ""
    images = f"{found.images.id:,} ID and {found.images.ood:,} OOD images"
    return (
        f"This attack is weaker than tier standard: on {images}, {member_words(found.attack)} "
        f"leaves {percent(found.auroc)} % where it leaves {percent(found.same_images)} %"
    )


def threshold_words(results: Results) -> str:
    """How the threshold was chosen, as a sentence."""
    limit = results.threshold
    if limit.evaluated is not None:
        return f"That value {limit.note}; the evaluation had {limit.evaluated:.4g}."
    given = [line for line in results.left_out if line.startswith("held-out ID images: ")]
    if given:
        return f"Without held-out ID images, {given[0].rpartition('; ')[2]}."
    return f"That value {limit.note or 'accepts 95 % of clean held-out ID images'}."


def basis(results: Results) -> str:
    """What every robust number is read with: attack and verdict."""
    return f"Attack: {attack_words(results.attack)}. Verdict: {verdict_words(results)}."


def curve_basis(results: Results, varied: Literal["epsilon", "steps"]) -> str:
    """What the numbers of a curve are read with: attack and verdict."""
    return f"Attack: {curve_words(results, varied)}. Verdict: {verdict_words(results)}."


def grouped(words: Mapping[str, str]) -> str:
    """What is said of several things, each only once: `a` where all agree, else `x, y: a; z: b`.

    Args:
        words: What is said, by label.
    """
    labels: dict[str, list[str]] = {}
    for label, text in words.items():
        labels.setdefault(text, []).append(label)
    if len(labels) == 1:
        return next(iter(labels))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in labels.items())


def mean_words(results: Results) -> str:
    """What the mean is taken over, e.g. `3 far sets`."""
    names = results.mean_over
    roles = {results.datasets[name].role for name in names}
    return plural(len(names), "far set" if roles == {"far"} else "set")


def measured_on(provenances: Sequence[Mapping[str, Any] | None]) -> str:
    """The code and hardware that runs were measured on, and when: a list in Markdown.

    Args:
        provenances: Of each run what `atd.provenance` gave; None where it is not known.
    """
    dates: dict[str, list[str]] = {}
    for facts in provenances:
        code = f"commit {facts['commit']}, {facts['hardware']}, " if facts else "code not recorded"
        dates.setdefault(code, []).append(facts["date"] if facts else "")
    return "\n".join(
        f"* {plural(len(when), 'run')}: {code}{' to '.join(sorted({min(when), max(when)}))}"
        for code, when in dates.items()
    )


def aurocs(item: Means | Dataset) -> list[str]:
    """AUROC in percent under each condition."""
    return [percent(item[condition]["auroc"]) for condition in CONDITIONS]


def _title(kind: str) -> str:
    return kind_of(kind).title if kind in KINDS else kind


def _parts(member: str) -> tuple[str, str, str]:
    """Name, steps and restarts of `<name>-<steps>x<restarts>`; the last two may be missing."""
    found = re.fullmatch(r"(.+)-(\d+)x(\d+)", member)
    return (found[1], found[2], found[3]) if found else (member, "", "")

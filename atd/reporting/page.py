"""What the report of one detector says, from its results; the format comes later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atd.evaluation.checks import TRUSTED
from atd.metrics import CONDITIONS
from atd.reporting.document import (
    Banner,
    Block,
    KeyNumbers,
    Paragraph,
    Picture,
    Section,
    Table,
    Text,
    code,
    emphasis,
    quiet,
    strong,
)
from atd.reporting.page_details import attack_section, checks_section, metrics_section, origin
from atd.reporting.wording import (
    aurocs,
    basis,
    curve_basis,
    mean_words,
    percent,
    plural,
    radius_words,
)

__all__ = ["page"]

_ROLES = {
    "far": "far",
    "near": "near",
    "validation": "also chose the best epoch",
}


def page(results: Mapping[str, Any]) -> list[Section]:
    """The report page of one detector.

    Args:
        results: The results of an evaluation, schema 1.

    Returns:
        The sections in reading order; robust numbers never stand without attack and verdict.
    """
    return [
        _headline(results),
        _auroc_section(results),
        _scores_section(results),
        _curves_section(results),
        _threshold_section(results),
        _examples_section(results),
        *_baselines_section(results),
        attack_section(results),
        checks_section(results),
        metrics_section(results),
        origin(results),
    ]


def _headline(results: Mapping[str, Any]) -> Section:
    name, mean, attack = results["detector"]["name"], results["mean"], results["attack"]
    radius = radius_words(attack["norm"], attack["epsilon"])
    power = {
        "linf": f"change every pixel of both images by up to {radius}",
        "l2": f"change both images by up to {radius} in Euclidean length",
    }[attack["norm"]]
    text = (
        f"Shown one image of {results['id']['name']} and one of something else, ",
        strong(name),
        " gives the other one the higher score in ",
        strong(f"{percent(mean['clean']['auroc'])} %"),
        f" of cases. When an attacker may {power}, it still does in ",
        strong(f"{percent(mean['both']['auroc'])} %"),
        ". Guessing gives 50 %.",
    )
    numbers = [
        (condition, f"{percent(mean[condition]['auroc'])} %", meaning)
        for condition, meaning in CONDITIONS.items()
    ]
    source = f"AUROC, mean of {mean_words(results)}. {basis(results)}"
    blocks: list[Block] = [
        _banner(results),
        Paragraph(text),
        KeyNumbers(numbers),
        Paragraph(source, aside=True),
    ]
    return Section(name, blocks)


def _banner(results: Mapping[str, Any]) -> Banner:
    if results["verdict"] == TRUSTED:
        count = plural(len(results["checks"]), "check")
        trusted = strong("These robustness numbers can be trusted")
        return Banner((trusted, f" as far as {count} of the attack can tell."), good=True)
    text = ("The robustness numbers are ", strong(results["verdict"]), ". The checks say why.")
    return Banner(text, good=False)


def _auroc_section(results: Mapping[str, Any]) -> Section:
    rows: list[list[Text]] = [
        [name, f"{item['images']:,}", _ROLES[item["role"]], *map(_with_interval, _each(item))]
        for name, item in results["datasets"].items()
    ]
    mean = [strong(value) for value in aurocs(results["mean"])]
    rows.append([strong(f"mean of {mean_words(results)}"), "", "", *mean])
    if results["mean_near"]:
        rows.append(["mean of near sets", "", "", *aurocs(results["mean_near"])])
    text = (
        f"In-distribution: {results['id']['name']} ({plural(results['id']['images'], 'image')}). ",
        "Ranges are 95 % bootstrap intervals over the images of both sides.",
    )
    head = ["OOD set", "images", "role", *CONDITIONS]
    blocks: list[Block] = [Table(head, rows, left=(0, 2)), Paragraph(text), _basis(results)]
    return Section("AUROC (%)", blocks)


def _each(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item[condition] for condition in CONDITIONS]


def _with_interval(values: Mapping[str, Any]) -> Text:
    low, high = values["auroc_ci"]
    return (percent(values["auroc"]), " ", quiet(f"{percent(low)}–{percent(high)}"))


def _scores_section(results: Mapping[str, Any]) -> Section:
    text = (
        "On ID images the attack raises the score, on OOD images it lowers it. The more the two "
        "sides overlap, the harder they are to tell apart."
    )
    source = basis(results)
    blocks: list[Block] = [
        Paragraph(text),
        Picture("scores.png", f"Score histograms: clean, in, out, both. {source}"),
        Picture("roc.png", f"ROC curves, clean and both sides attacked. {source}"),
    ]
    return Section("Scores before and after the attack", blocks)


def _curves_section(results: Mapping[str, Any]) -> Section:
    radii, steps = curve_basis(results, "epsilon"), curve_basis(results, "steps")
    blocks: list[Block] = [
        Paragraph("A larger radius must not help the defender; without limit no detector holds."),
        Picture("epsilon.png", f"AUROC against the attack radius: in, out, both. {radii}"),
        Paragraph("More steps help the attacker until the curves are flat: it has converged."),
        Picture("steps.png", f"AUROC against the steps of the attack: in, out, both. {steps}"),
    ]
    return Section("Strength of the attack", blocks)


def _threshold_section(results: Mapping[str, Any]) -> Section:
    limit = results["threshold"]
    share = {key: f"{percent(value)} %" for key, value in limit.items() if key != "value"}
    text = (
        "Images that score above ",
        strong(f"{limit['value']:.4g}"),
        " are flagged as OOD. That value lets 95 % of held-out ID images pass. On the test images "
        f"(OOD: {mean_words(results)}, pooled):",
    )
    rows = [
        ["ID images accepted", share["tpr_clean"], share["tpr_attacked"]],
        ["OOD images that slip through", share["fpr_clean"], share["fpr_attacked"]],
    ]
    blocks: list[Block] = [
        Paragraph(text),
        Table(["", "clean", "attacked"], rows),
        _basis(results),
        Picture(
            "threshold.png", f"Share of images accepted against the threshold. {basis(results)}"
        ),
    ]
    return Section("At the threshold", blocks)


def _examples_section(results: Mapping[str, Any]) -> Section:
    text = (
        "The ID and OOD images that ended up worst for the detector. Above each: its score "
        "and what the stored threshold makes of it. The change is magnified; grey is no change."
    )
    alt = f"Adversarial examples: image, magnified change, attacked image. {basis(results)}"
    return Section("Worst examples", [Paragraph(text), Picture("examples.png", alt)])


def _baselines_section(results: Mapping[str, Any]) -> list[Section]:
    if not results["baselines"]:
        return []
    text = (
        f"AUROC (%), mean of {mean_words(results)}. Each score is attacked itself, end to end. The "
        "verdict is on ",
        emphasis(results["detector"]["name"]),
        " alone.",
    )
    mine = [strong(value) for value in aurocs(results["mean"])]
    rows: list[list[Text]] = [[strong(results["detector"]["name"]), *mine]]
    rows += [[code(name), *aurocs(item)] for name, item in results["baselines"].items()]
    blocks: list[Block] = [Paragraph(text), Table(["score", *CONDITIONS], rows), _basis(results)]
    return [Section("Other scores of the same backbone", blocks)]


def _basis(results: Mapping[str, Any]) -> Paragraph:
    return Paragraph(basis(results), aside=True)

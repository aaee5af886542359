"""What the report of one detector says, from its results; the format comes later."""

from __future__ import annotations

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Dataset, Results
from atd.metrics import CONDITIONS, Metrics
from atd.reporting.certificate import certificate_section
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
    stronger_words,
    threshold_words,
)

__all__ = ["page"]

_ROLES = {
    "far": "far",
    "near": "near",
    "validation": "also chose the best epoch",
}


def page(results: Results) -> list[Section]:
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
        *certificate_section(results),
        _threshold_section(results),
        _examples_section(results),
        *_baselines_section(results),
        *_left_out_section(results),
        attack_section(results),
        checks_section(results),
        metrics_section(results),
        origin(results),
    ]


def _headline(results: Results) -> Section:
    name, mean, attack = results.detector.name, results.mean, results.attack
    radius = radius_words(attack.norm, attack.epsilon)
    power = {
        "linf": f"change every pixel of both images by up to {radius}",
        "l2": f"change both images by up to {radius} in Euclidean length",
    }[attack.norm]
    text = (
        f"Shown one image of {results.id.name} and one of something else, ",
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
        *([Paragraph(f"{stronger}.")] if (stronger := stronger_words(results)) else []),
        KeyNumbers(numbers),
        Paragraph(source, aside=True),
    ]
    return Section(name, blocks)


def _banner(results: Results) -> Banner:
    if results.verdict == TRUSTED:
        count = plural(len(results.checks), "check")
        trusted = strong("These robustness numbers can be trusted")
        return Banner((trusted, f" as far as {count} of the attack can tell."), good=True)
    text = ("The robustness numbers are ", strong(results.verdict), ". The checks say why.")
    return Banner(text, good=False)


def _auroc_section(results: Results) -> Section:
    rows: list[list[Text]] = [
        [name, f"{item.images:,}", _ROLES[item.role], *map(_with_interval, _each(item))]
        for name, item in results.datasets.items()
    ]
    mean = [strong(value) for value in aurocs(results.mean)]
    rows.append([strong(f"mean of {mean_words(results)}"), "", "", *mean])
    if results.mean_near:
        rows.append(["mean of near sets", "", "", *aurocs(results.mean_near)])
    text = (
        f"In-distribution: {results.id.name} ({plural(results.id.images, 'image')}). ",
        "Ranges are 95 % bootstrap intervals over the images of both sides.",
    )
    head = ["OOD set", "images", "role", *CONDITIONS]
    blocks: list[Block] = [Table(head, rows, left=(0, 2)), Paragraph(text), _basis(results)]
    return Section("AUROC (%)", blocks)


def _each(item: Dataset) -> list[Metrics]:
    return [item[condition] for condition in CONDITIONS]


def _with_interval(values: Metrics) -> Text:
    low, high = values["auroc_ci"]
    return (percent(values["auroc"]), " ", quiet(f"{percent(low)}–{percent(high)}"))


def _scores_section(results: Results) -> Section:
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


def _curves_section(results: Results) -> Section:
    radii, steps = curve_basis(results, "epsilon"), curve_basis(results, "steps")
    blocks: list[Block] = [
        Paragraph("A larger radius must not help the defender; without limit no detector holds."),
        Picture("epsilon.png", f"AUROC against the attack radius: in, out, both. {radii}"),
        Paragraph("More steps help the attacker until the curves are flat: it has converged."),
        Picture("steps.png", f"AUROC against the steps of the attack: in, out, both. {steps}"),
    ]
    return Section("Strength of the attack", blocks)


def _threshold_section(results: Results) -> Section:
    limit = results.threshold
    text = (
        "Images that score above ",
        strong(f"{limit.value:.4g}"),
        f" are flagged as OOD. {threshold_words(results)} On the test images (OOD: "
        f"{mean_words(results)}, pooled):",
    )
    accepted, slipped = (
        [f"{percent(share)} %" for share in shares]
        for shares in ((limit.tpr_clean, limit.tpr_attacked), (limit.fpr_clean, limit.fpr_attacked))
    )
    rows = [
        ["ID images accepted", *accepted],
        ["OOD images that slip through", *slipped],
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


def _examples_section(results: Results) -> Section:
    had = results.threshold.evaluated
    threshold = "the stored threshold" if had is None else f"the threshold of then, {had:.4g},"
    text = (
        "The ID and OOD images that ended up worst for the detector. Above each: its score "
        f"and what {threshold} makes of it. The change is magnified; grey is no change."
    )
    alt = f"Adversarial examples: image, magnified change, attacked image. {basis(results)}"
    return Section("Worst examples", [Paragraph(text), Picture("examples.png", alt)])


def _baselines_section(results: Results) -> list[Section]:
    if not results.baselines:
        return []
    text = (
        "AUROC (%). Each score is attacked itself, end to end, and checked like ",
        emphasis(results.detector.name),
        ". Ranges are 95 % bootstrap intervals.",
    )
    mean = f"mean of {mean_words(results)}"
    rows: list[list[Text]] = [
        [strong(results.detector.name), mean, *aurocs(results.mean), results.verdict]
    ]
    for kind, found in results.baselines.items():
        rows.append([code(kind), mean, *aurocs(found.mean), found.verdict])
        rows += [
            ["", name, *map(_with_interval, _each(item)), ""]
            for name, item in found.datasets.items()
        ]
    head = ["score", "OOD set", *CONDITIONS, "verdict"]
    table = Table(head, rows, left=(0, 1, len(head) - 1))
    blocks: list[Block] = [Paragraph(text), table, _basis(results)]
    return [Section("Other scores of the same backbone", blocks)]


def _left_out_section(results: Results) -> list[Section]:
    if not results.left_out:
        return []
    rows: list[list[Text]] = [
        [what, why] for what, _, why in (line.partition(": ") for line in results.left_out)
    ]
    return [Section("What was left out", [Table(["what", "why"], rows, left=(0, 1))])]


def _basis(results: Results) -> Paragraph:
    return Paragraph(basis(results), aside=True)

"""What a report says of a certificate: a section, a picture and a line for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atd.evaluation.certified import Certificate
from atd.evaluation.results import Results
from atd.reporting.document import (
    Banner,
    Block,
    Paragraph,
    Picture,
    Section,
    Table,
    Text,
    quiet,
    strong,
)
from atd.reporting.drawing import BLUE, COLOURS, VERMILION, footer, grid
from atd.reporting.wording import fraction_255, mean_words, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from atd.evaluation.protocol import Evaluation

__all__ = [
    "certificate_figure",
    "certificate_section",
    "certified_words",
    "draw_certificate",
    "smoothing_words",
]


def certified_words(results: Results) -> str:
    """The certified AUROC by radius, in a line; empty without a certificate."""
    found = results.certificate
    if found is None:
        return ""
    numbers = ", ".join(
        f"{percent(point.both)} % at {point.radius:g}" for point in found.mean if point.radius
    )
    how = smoothing_words(found)
    if results.certificate_is_void:
        numbers += ". Void: the score of an image depends on other images"
    return f"certified AUROC in L2, both sides attacked ({how}): {numbers}"


def certificate_section(results: Results) -> list[Section]:
    """The section of a report page; none without a certificate."""
    found = results.certificate
    if found is None:
        return []
    blocks: list[Block] = []
    if results.certificate_is_void:
        words = "The certificate is void: the score of an image depends on other images."
        blocks.append(Banner(words, good=False))
    bounds = found.images * len(found.mean)
    claim = (
        "No attack within a radius, known or not thought of yet, can push the AUROC of the ",
        strong("smoothed score"),
        " below the certified number. It is the median of the score under Gaussian noise of "
        f"standard deviation {found.sigma:g} (copies are not clipped), and its AUROC without any "
        f"attack is {percent(found.smoothed)} %, beside "
        f"{percent(results.mean['clean']['auroc'])} % of the score itself.",
    )
    proof = (
        f"From {found.draws:,} noisy copies of each of {found.images:,} images. All {bounds:,} "
        "bounds (of ID images from above, of OOD images from below) hold at once with a "
        f"probability of at least {100 * found.confidence:g} % over the noise. An image without a "
        "bound loses every comparison. The ball in L-inf is the largest one inside that in L2: "
        "what is certified here is far less than what attacks are tried with above. The attack is "
        f"{found.attack}, on {found.attacked} images a side; in brackets, what is certain on these."
    )
    alt = f"Certified AUROC against the L2 radius. {smoothing_words(found)}"
    picture = Picture("certificate.png", alt)
    return [
        Section(
            "What no attack can take away (certified AUROC, %)",
            [*blocks, Paragraph(claim), _table(found), picture, Paragraph(proof, aside=True)],
        )
    ]


def _table(found: Certificate) -> Table:
    left: dict[float, Text] = {
        item.radius: (percent(item.auroc), " ", quiet(percent(item.certified)))
        for item in found.attempts
    }
    rows: list[list[Text]] = [
        [
            f"{point.radius:g}",
            fraction_255(point.linf),
            *(percent(share) for share in (point.in_, point.out)),
            strong(percent(point.both)),
            left.get(point.radius, ""),
            percent(point.abstained),
        ]
        for point in found.mean
    ]
    head = ["L2 radius", "L-inf ball inside", "in", "out", "both"]
    head += ["attack on both leaves", "images without a bound"]
    return Table(head, rows, left=())


def certificate_figure(evaluation: Evaluation) -> Figure:
    """Certified AUROC against the radius, beside what an attack on the smoothed score leaves."""
    results = evaluation.results
    found = results.certificate
    assert found is not None
    figure, axes = grid(1, 1, width=6.4, height=3.6)
    draw_certificate(axes[0][0], found)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    how = smoothing_words(found)
    footer(figure, f"{results.detector.name}. Mean of {mean_words(results)}. {how}.")
    return figure


def draw_certificate(axis: Axes, found: Certificate) -> None:
    """The curves of a certificate, with the L-inf ball inside each radius on the upper edge."""
    axis.axhline(0.5, color="0.75", linewidth=0.8)
    tried = [(0.0, found.smoothed), *((item.radius, item.auroc) for item in found.attempts)]
    radii = [point.radius for point in found.mean]
    curves = {
        "both attacked: what an attack leaves": (tried, VERMILION, "--s"),
        "certified, ID attacked": ([(at.radius, at.in_) for at in found.mean], COLOURS[2], "-."),
        "certified, OOD attacked": ([(at.radius, at.out) for at in found.mean], COLOURS[3], ":"),
        "certified, both attacked": ([(at.radius, at.both) for at in found.mean], BLUE, "-o"),
    }
    for label, (points, colour, style) in curves.items():
        at, shares = zip(*points, strict=True)
        axis.plot(at, shares, style, color=colour, markersize=4, label=label, clip_on=False)
    levels = found.mean[-1].linf * 255 / radii[-1]

    def to_levels(radius: Any) -> Any:
        return radius * levels

    def to_radius(level: Any) -> Any:
        return level / levels

    upper = axis.secondary_xaxis("top", functions=(to_levels, to_radius))
    upper.set_xlabel("L-inf ball inside, in 1/255", fontsize=8)
    lowest = min(share for points, *_ in curves.values() for _, share in points)
    low = 0.5 if lowest > 0.5 else 0.0
    axis.set(xlabel="L2 radius", ylabel="AUROC of the smoothed score", ylim=(low, 1.0))
    axis.set_xlim(0, radii[-1])
    axis.yaxis.set_major_formatter("{x:.0%}")


def smoothing_words(found: Certificate) -> str:
    """How a certificate was made, in one phrase."""
    return (
        f"median smoothing, sigma {found.sigma:g}, {found.draws:,} draws, all bounds at once with "
        f"{100 * found.confidence:g} %"
    )

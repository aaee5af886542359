"""The page of certificates: what is certain of some detectors, and what that means."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from atd.evaluation.certified import Attempt, Certificate, CertifiedAuroc
from atd.reporting.certificate import draw_certificate
from atd.reporting.drawing import footer, grid
from atd.reporting.figure_rows import FigureRow, refusals
from atd.reporting.markdown import verbatim
from atd.reporting.table_parts import by_setting, page_of
from atd.reporting.wording import fraction_255, percent, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CertifiedRow", "certificate_page", "certificates_figure"]

Point = TypeVar("Point", CertifiedAuroc, Attempt)


@dataclass(frozen=True, kw_only=True)
class CertifiedRow(FigureRow):
    """What is certain of one detector with one seed; None where it was refused."""

    certificate: Certificate | None = None


_ABOUT = """\
# A number that no attack can take away

An attack that fails may have been too weak. A certificate does not depend on attacks: whatever
anybody does to both the ID and the OOD images within a Euclidean (L2) radius, the AUROC stays
above the certified number. Any detector can be certified, one's own too, since no gradient is
needed:

    python evaluate.py checkpoints/digits/detector evaluate.certify=true
    python evaluate.py import:mymodule:detector evaluate.certify=true \\
        evaluate.certify_sigma=0.5 evaluate.certify_radii=0.25,0.5,1 evaluate.certify_draws=10000

The number of passes, and about how long they take, is said before anything starts. Noise is drawn
for each image from the seed and its place in its set: what is finished is kept and gone on with,
and any number of processes finds the same."""

_MEANING = """\
## What is certain, and of what

The certificate is that of the **smoothed score**: the median of the score of an image under
Gaussian noise of standard deviation `evaluate.certify_sigma` (on the [0, 1] scale; noisy copies
are not clipped). Who wants what is certified has to use that score: the median over noisy copies,
at that many passes an image; of the score of the image alone nothing is certain. A perturbation
of length r moves the median no further than to the percentiles Phi(r / sigma) and Phi(-r / sigma)
of the unperturbed image (Chiang et al., 2020,
[arXiv:2007.03730](https://arxiv.org/abs/2007.03730)), whatever the detector is, as long as the
score of an image depends on that image alone; where the checks `same_score_in_any_batch` or
`same_score_after_anything` fail, a report calls its certificate void.

The percentiles are bounded by order statistics of the scores of `evaluate.certify_draws` noisy
copies, with exact binomial probabilities. An ID image needs one bound at each radius, from above,
an OOD image one from below; each may fail with a probability of (1 -
`evaluate.certify_confidence`) divided by the number of images and radii, so that **all bounds of
a report hold at once** with that confidence (Bonferroni; nothing is assumed of how the images
depend on each other). Where no order statistic lies far enough out, or a score is not finite, the
bound is infinite and the image loses every comparison. That is over the noise that was drawn; how
well these images stand for others is another question.

L2 is not L-inf. The largest L-inf ball inside a ball of radius r has the radius r / sqrt(elements
of an image), and it stands beside each radius: on larger images it is much smaller than 8/255.
The proof is one in real numbers; float32 adds rounding of about a millionth, which nobody has
turned into an attack here.

Beside it stands what an attack on the smoothed score leaves on a few images (PGD on the mean
score of noisy copies, judged by the median of fresh ones) with, in brackets, what is certain on
the same images: the truth lies between the two. More draws bring the lower number nearer to the
upper one, most of all at large radii; a larger sigma reaches further and costs AUROC everywhere.

Training with noise is no option here, since it did not help where it was tried: on digits (one
seed, one run, the backbone as it was), a discriminator trained adversarially on images with noise
of standard deviation 0.25 was certified 98.0, 95.8 and 86.0 % at radius 0.1, 0.25 and 0.5, that of
the config, without noise, 99.1, 97.6 and 88.4 %. Backbones trained with noise were not tried."""


def certificate_page(rows: Sequence[CertifiedRow], picture: str) -> str:
    """The page in Markdown.

    Args:
        rows: What came of every detector with every seed; at least one.
        picture: Name of the picture beside the page.
    """
    parts = [_ABOUT]
    if any(row.certificate for row in rows):
        parts.append(f"![Certified AUROC against the L2 radius]({picture})")
    for head, names in by_setting(rows, "certificate", lambda row: row.name).items():
        of_setting = [row for found in names.values() for row in found]
        parts.append(head + _section(of_setting) + refusals(of_setting))
    return page_of(rows, *parts, _MEANING)


def _section(rows: Sequence[CertifiedRow]) -> str:
    found = [row.certificate for row in rows if row.certificate]
    return f"\n\n{_basis(found[0])}\n\n{_table(rows)}" if found else ""


def _basis(found: Certificate) -> str:
    return (
        f"Sigma {found.sigma:g}, {found.draws:,} draws; all bounds on {found.images:,} images at "
        f"once with {100 * found.confidence:g} %, so that each may fail with {found.error:.1e}. "
        "AUROC of the smoothed score in percent, mean over the far sets; the mean over seeds, and "
        f"in brackets the lowest and the highest. Attack: {found.attack}, {found.attacked} images "
        "a side."
    )


def _table(rows: Sequence[CertifiedRow]) -> str:
    lines = [
        "| detector | seeds | L2 radius | L-inf ball inside | ID attacked | OOD attacked "
        "| both attacked | attack on both leaves (certain there) | images without a bound |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in _by_name(rows).items():
        left = {item.radius: item for item in _mean(found).attempts}
        whole = f"{_spread([one.smoothed for one in found])}, not certified"
        lines.append(f"| {verbatim(name)} | {len(found)} | no attack | | | | {whole} | | |")
        for number, point in enumerate(_mean(found).mean):
            at = [one.mean[number] for one in found]
            tried = left.get(point.radius)
            cells = [
                "", "", f"{point.radius:g}", fraction_255(point.linf),
                _spread([one.in_ for one in at]), _spread([one.out for one in at]),
                f"**{percent(point.both)}**{_range([one.both for one in at])}",
                f"{percent(tried.auroc)} ({percent(tried.certified)})" if tried else "",
                percent(point.abstained),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(shares: Sequence[float]) -> str:
    return f"{percent(statistics.mean(shares))}{_range(shares)}"


def _range(shares: Sequence[float]) -> str:
    return f" ({percent(min(shares))} to {percent(max(shares))})" if len(shares) > 1 else ""


def _by_name(rows: Sequence[CertifiedRow]) -> dict[str, list[Certificate]]:
    found: dict[str, list[Certificate]] = {}
    for row in rows:
        if row.certificate:
            found.setdefault(row.name, []).append(row.certificate)
    return found


def _mean(found: Sequence[Certificate]) -> Certificate:
    """The mean over seeds of certificates of one setting."""
    return replace(
        found[0],
        smoothed=statistics.mean(one.smoothed for one in found),
        mean=_mean_of(CertifiedAuroc, [one.mean for one in found]),
        attempts=_mean_of(Attempt, [one.attempts for one in found]),
    )


def _mean_of(kind: type[Point], curves: Sequence[Sequence[Point]]) -> list[Point]:
    names = [item.name for item in fields(kind)]
    return [
        kind(**{name: statistics.mean(getattr(point, name) for point in at) for name in names})
        for at in zip(*curves, strict=True)
    ]


def certificates_figure(rows: Sequence[CertifiedRow]) -> Figure:
    """The curves of every detector of every setting, each the mean over seeds."""
    settings: dict[str, list[CertifiedRow]] = {}
    for row in rows:
        settings.setdefault(" ".join([row.config, row.scale, *row.overrides]), []).append(row)
    panels = {
        f"{name}, {setting}": found
        for setting, of_setting in settings.items()
        for name, found in _by_name(of_setting).items()
    }
    figure, axes = grid(1, len(panels), width=6.4 if len(panels) == 1 else 4.4, height=3.9)
    for axis, (title, found) in zip(axes[0], panels.items(), strict=True):
        draw_certificate(axis, _mean(found))
        axis.set_title(f"{title}, {plural(len(found), 'seed')}", fontsize=8)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    first = next(iter(panels.values()))[0]
    footer(
        figure,
        f"Median smoothing, sigma {first.sigma:g}, {first.draws:,} draws; all bounds at once with "
        f"{100 * first.confidence:g} %. Grey: guessing.",
    )
    return figure

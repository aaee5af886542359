"""What came out otherwise than in the paper, and why as far as that is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from atd.metrics import CONDITIONS
from atd.reporting.markdown import escaped
from atd.reporting.wording import percent

__all__ = ["UNEXPLAINED", "against_paper"]

Found = Mapping[str, Sequence[float]]
"""AUROC of every seed by condition."""
Numbers = Sequence[float]
"""The paper's AUROC by condition."""

_LEAST = 0.05 * math.sqrt(60)
"""About the 95 % interval of a difference over one image; over N it is that by sqrt(N)."""

UNEXPLAINED = "Not explained"
"""The reason where none was measured."""


def against_paper(
    found: Mapping[str, Found],
    published: Mapping[str, Numbers],
    *,
    images: int,
    comparable: bool,
    reference: str,
    why: Mapping[str, str],
) -> str:
    """The cells of a table that differ from the paper's by more than their spread.

    Args:
        found: AUROC by method.
        published: The paper's numbers by method.
        images: ID images that ours are of: what they leave open counts as no difference.
        comparable: Whether data and radius are the paper's. If not, no values are compared, but
            on which side of the reference a method comes out.
        reference: The method that the others are compared with.
        why: By method what the difference comes from, as measured.

    Returns:
        A paragraph with a list; empty where the paper has no such methods.
    """
    least = _LEAST / math.sqrt(max(images, 1))
    known = {name: found[name] for name in found if published.get(name)}
    if not comparable and (reference not in known or len(known) < 2):
        return ""
    if comparable:
        told = {name: _far_off(known[name], published[name], least) for name in known}
        head = "Cells that differ from the paper's"
    else:
        mine, theirs = known[reference], published[reference]
        told = {
            name: _swapped(known[name], mine, published[name], theirs, least)
            for name in known
            if name != reference
        }
        head = (
            "Images and radius are not the paper's: no values are compared with its CIFAR-10 "
            f"table, but the order. Cells on the other side of `{reference}` than there"
        )
    rule = (
        f"by more than the spread over seeds and by more than {percent(least)} points, which is "
        f"about what {images} images leave open"
    )
    lines = [
        f"* {escaped(name)}: {'; '.join(words)}. {why.get(name, UNEXPLAINED)}."
        for name, words in told.items()
        if words
    ]
    return f"{head}, {rule}:" + ("\n\n" + "\n".join(lines) if lines else " none.")


def _far_off(found: Found, paper: Numbers, least: float) -> list[str]:
    words = []
    for condition, quoted in zip(CONDITIONS, paper, strict=True):
        seeds = found[condition]
        apart = max(min(seeds) - quoted, quoted - max(seeds))
        if apart > least:
            mean = percent(statistics.mean(seeds))
            words.append(f"{condition} {mean}, the paper {percent(quoted)}")
    return words


def _swapped(found: Found, mine: Found, paper: Numbers, theirs: Numbers, least: float) -> list[str]:
    words = []
    for condition, quoted, other in zip(CONDITIONS, paper, theirs, strict=True):
        above = min(found[condition]) - max(mine[condition])
        below = min(mine[condition]) - max(found[condition])
        if (above > least and quoted < other) or (below > least and quoted > other):
            pair = [percent(statistics.mean(side[condition])) for side in (found, mine)]
            here, there = ("above", "below") if above > 0 else ("below", "above")
            words.append(f"{condition} {here} it ({' against '.join(pair)}), there {there}")
    return words

"""The scores past which an attack may stop, because no metric can change any more.

Attacks only raise ID scores and only lower OOD scores. Once an ID image's score is above every
*clean* OOD score (and above the threshold), it is above every attacked OOD score too, so it loses
each comparison that any metric makes, however much higher it may still rise; likewise an OOD
image below every clean ID score. AUROC, AUPR, FPR95, detection error and the shares at the
threshold depend on nothing else.

AUPR also depends on which images of one side tie exactly. Stopping elsewhere could change that for
scores that are rounded only, and the check `scores_distinct` tells of those.
"""

from __future__ import annotations

from atd.metrics import Array

__all__ = ["stops"]

_MARGIN = 1e-4
"""Of the range of scores. Rounding moves a score when its batch changes; an order of magnitude or
more below this."""


def stops(inside: Array, outside: Array, threshold: float | None = None) -> tuple[float, float]:
    """The scores above which an ID image, and below which an OOD image, is finished.

    Args:
        inside: Clean scores (N,) of the ID images that are compared with attacked OOD images.
        outside: Clean scores (M,) of the OOD images that are compared with attacked ID images.
        threshold: A score at which shares are counted.

    Returns:
        The stop for ID images and that for OOD images, for `Attack.stop`.
    """
    highest, lowest = float(outside.max()), float(inside.min())
    if threshold is not None:
        highest, lowest = max(highest, threshold), min(lowest, threshold)
    both = [float(inside.max()), float(outside.min()), highest, lowest]
    margin = _MARGIN * (max(both) - min(both))
    return highest + margin, lowest - margin

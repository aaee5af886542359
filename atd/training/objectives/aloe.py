"""ALOE, outlier exposure under attack (Chen et al., 2020, arXiv:2003.09711)."""

from __future__ import annotations

from atd.training.objectives.oe import OutlierExposure

__all__ = ["OBJECTIVE", "Aloe"]


class Aloe(OutlierExposure):
    """CE(attacked ID) + lambda * CE(attacked outliers, uniform).

    The attack raises the loss of either side (ATD paper, eq. 7).
    """

    raises = "classification loss"
    raises_beside = "classification loss"


OBJECTIVE = Aloe()

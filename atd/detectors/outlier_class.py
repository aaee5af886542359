"""The probability of a class of outliers (ATOM, Chen et al., 2021, arXiv:2006.15207)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.detectors.base import Detector, DetectorInfo
from atd.errors import UserError

__all__ = ["OutlierClass", "outlier_log_odds"]


def outlier_log_odds(logits: Tensor) -> Tensor:
    """Log-odds (N,) of the last of the classes whose logits (N, K + 1) are given.

    They rank as its softmax probability does but never saturate.
    """
    return logits[:, -1] - torch.logsumexp(logits[:, :-1], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierClassOptions:
    """The outlier class has no options."""


class OutlierClass(Detector):
    """Scores an image by the log-odds of the last class, which a network was taught outliers by.

    Any backbone will do that has one logit more than there are ID classes: one trained by
    `pretrain.objective=atom`, or one of the user's own.

    Args:
        backbone: The classifier; the last of its logits is that of the outliers.
        options: There are none.
        classes: Names of the ID classes; empty where they are not known.
        of: As of every `Detector`.

    Raises:
        UserError: The backbone has no logit beyond those of the ID classes.
    """

    kind = "outlier_class"
    Options = OutlierClassOptions
    info = DetectorInfo(
        title="Outlier class",
        paper="Chen et al., 2021, arXiv:2006.15207",
        needs=frozenset({"logits"}),
    )

    backbone: Backbone

    def __init__(
        self,
        backbone: Backbone,
        options: OutlierClassOptions | None = None,
        *,
        classes: Sequence[str] = (),
        **of: Any,
    ) -> None:
        super().__init__(backbone, options, classes=classes, **of)
        known = max(1, len(classes))
        if backbone.classes <= known:
            raise UserError(
                f"detector.kind=outlier_class: the backbone has {backbone.classes} logits for "
                f"{known} ID classes and none for outliers; train it with pretrain.objective=atom"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return outlier_log_odds(self.backbone(images))

"""Relative Mahalanobis distance (Ren et al., 2021, arXiv:2106.09022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.detectors.base import DetectorInfo
from atd.detectors.mahalanobis import Mahalanobis
from atd.detectors.statistics import whitening
from atd.errors import UserError

__all__ = ["RelativeMahalanobis"]


class RelativeMahalanobis(Mahalanobis):
    """Scores an image by its distance from the nearest class less that from all ID images.

    MD_0 is the distance from one Gaussian that is fitted to all images; the score is
    min_k MD_k - MD_0 (eq. 3).
    """

    kind = "relative_mahalanobis"
    info = DetectorInfo(
        title="Relative Mahalanobis distance",
        paper="Ren et al., 2021, arXiv:2106.09022",
        needs=frozenset({"labels", "fitting"}),
    )

    background: Tensor

    def __init__(self, backbone: Backbone, options: Any = None, **of: Any) -> None:
        super().__init__(backbone, options, **of)
        self.register_buffer("background", torch.eye(backbone.embedding_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        embedded = self.backbone.embed(images)
        away = (embedded - self.centre) @ self.background.T
        return self.nearest(embedded) - away.square().sum(dim=1)

    def set_statistics(self, embedded: Tensor, labels: Tensor) -> None:
        """Sets the buffers from embeddings (N, D) in float64 and labels (N,).

        Raises:
            UserError: The images are of a single class.
        """
        if len(labels.unique()) < 2:
            raise UserError(
                "detector.kind=relative_mahalanobis: all ID images are of one class, so both "
                "distances are the same; use mahalanobis"
            )
        super().set_statistics(embedded, labels)
        overall = whitening(self, embedded - embedded.mean(dim=0), len(embedded) - 1)
        self.background = overall.to(self.centre)

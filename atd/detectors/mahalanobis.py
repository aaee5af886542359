"""Mahalanobis distance (Lee et al., 2018, arXiv:1807.03888)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import FitData, collect
from atd.detectors.statistics import class_means, require_labels, require_spread, whitening
from atd.inference import frozen

__all__ = ["Mahalanobis"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MahalanobisOptions:
    """The Mahalanobis distance has no options."""


class Mahalanobis(Detector):
    """Scores an image by its distance from the nearest class in the backbone's embedding.

    MD_k = (z - mu_k)^T S^-1 (z - mu_k) with one covariance S for all classes; the score is
    min_k MD_k (ATD paper, eqs. 1-3). Images without labels are taken as one class.

    The precision matrix is kept as inverse Cholesky factor W, so that a distance is a plain sum
    of squares |W (z - mu)|^2: never negative, and cheap to differentiate.
    """

    kind = "mahalanobis"
    Options = MahalanobisOptions
    info = DetectorInfo(
        title="Mahalanobis distance",
        paper="Lee et al., 2018, arXiv:1807.03888",
        needs=frozenset({"fitting"}),
    )

    backbone: Backbone
    means: Tensor
    centre: Tensor
    whitening: Tensor

    def __init__(self, backbone: Backbone, options: Any = None, **of: Any) -> None:
        super().__init__(backbone, options, **of)
        size = backbone.embedding_dim
        self.register_buffer("means", torch.zeros(0, size))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whitening", torch.eye(size))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        return self.nearest(self.backbone.embed(images))

    def nearest(self, embedded: Tensor) -> Tensor:
        """Squared distance (N,) of embeddings (N, D) from the nearest class."""
        # Whitening before subtracting the K means costs K times less than the other way round.
        whitened = (embedded - self.centre) @ self.whitening.T
        centres = (self.means - self.centre) @ self.whitening.T
        return (whitened.unsqueeze(1) - centres).square().sum(dim=2).amin(dim=1)

    @torch.no_grad()
    def fit(self, data: FitData, *, seed: int) -> Self:
        """Estimates means and covariance, in float64.

        Args:
            data: ID images and their labels.
            seed: Not used.

        Returns:
            The detector itself.

        Raises:
            UserError: No images, some without a label, or one that the backbone does not know.
        """
        with frozen(self.backbone):
            embedded, labels = collect(self.backbone.embed, data.id)
        if "labels" not in self.info.needs and (labels < 0).all():
            labels = torch.zeros_like(labels)
        require_labels(self, labels, max(1, self.backbone.classes))
        require_spread(self, embedded)
        self.set_statistics(embedded, labels)
        return self

    def set_statistics(self, embedded: Tensor, labels: Tensor) -> None:
        """Sets the buffers from embeddings (N, D) in float64 and labels (N,)."""
        means = class_means(embedded, labels, int(labels.max()) + 1)
        centred, like = embedded - means[labels], self.centre
        self.means = means.to(like)
        self.centre = embedded.mean(dim=0).to(like)
        freedom = len(labels) - len(labels.unique())
        self.whitening = whitening(self, centred, freedom).to(like)

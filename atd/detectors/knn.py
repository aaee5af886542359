"""Distance from the k-th nearest neighbour (Sun et al., 2022, arXiv:2204.06507)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from atd.backbones.base import Backbone
from atd.config.ranges import Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import FitData, collect
from atd.errors import UserError
from atd.inference import frozen

__all__ = ["NearestNeighbours"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighboursOptions:
    """Options of the nearest neighbours."""

    k: Annotated[int, Range(1, 100_000)] = 50
    """The paper takes 50 for CIFAR-10, 200 for CIFAR-100 and 1000 for ImageNet."""
    bank: Annotated[int, Range(1, 10_000_000)] = 50_000
    """At most this many ID images are kept to compare with, a seeded subset."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class NearestNeighbours(Detector):
    """Scores an image by its distance from the k-th nearest ID image.

    Embeddings are scaled to length one. The distance is squared, which ranks images as it does
    itself, and whose gradient is finite where an image lies in the bank.
    """

    kind = "knn"
    Options = NearestNeighboursOptions
    info = DetectorInfo(
        title="k-th nearest neighbour",
        paper="Sun et al., 2022, arXiv:2204.06507",
        needs=frozenset({"fitting"}),
    )

    backbone: Backbone
    options: NearestNeighboursOptions
    bank: Tensor

    def __init__(self, backbone: Backbone, options: Any = None, **of: Any) -> None:
        super().__init__(backbone, options, **of)
        self.register_buffer("bank", torch.zeros(0, backbone.embedding_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        embedded = normalize(self.backbone.embed(images))
        # On the unit sphere the nearest are the most similar; their distance is then taken from
        # the difference, since 2 - 2 cos loses all digits where it is small.
        rows = (embedded @ self.bank.T).topk(self.options.k, dim=1).indices[:, -1]
        return (embedded - self.bank[rows]).square().sum(dim=1)

    @torch.no_grad()
    def fit(self, data: FitData, *, seed: int) -> Self:
        """Keeps the embeddings of ID images.

        Args:
            data: ID images; labels are not read.
            seed: Chooses the subset.

        Returns:
            The detector itself.

        Raises:
            UserError: There are fewer than k images.
        """
        with frozen(self.backbone):
            embedded, _ = collect(self.backbone.embed, data.id)
        if len(embedded) > self.options.bank:
            generator = torch.Generator().manual_seed(seed)
            kept = torch.randperm(len(embedded), generator=generator)[: self.options.bank]
            embedded = embedded[kept.sort().values]
        if len(embedded) < self.options.k:
            raise UserError(
                f"detector.k={self.options.k}: there are only {len(embedded)} ID images to compare "
                "with; choose a smaller k"
            )
        self.bank = normalize(embedded).to(self.bank)
        return self

    def check(self, file: Any) -> None:
        """Refuses a bank of fewer than k images."""
        if len(self.bank) < self.options.k:
            raise UserError(
                f"{file}: damaged: a bank of {len(self.bank)} has no neighbour {self.options.k}"
            )

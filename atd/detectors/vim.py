"""Virtual-logit matching, ViM (Wang et al., 2022, arXiv:2203.10807)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.config.ranges import Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import FitData, collect
from atd.errors import UserError
from atd.inference import frozen

__all__ = ["VirtualLogit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualLogitOptions:
    """Options of ViM."""

    dimension: Annotated[int, Range(0, 100_000)] = 0
    """Dimensions of the principal subspace. 0: 1000 of 2048 and more, 512 of fewer, as in the
    authors' code, and half of them where there are at most 512."""

    def __post_init__(self) -> None:
        settle(self, "detector")


class VirtualLogit(Detector):
    """Scores an image by a virtual logit for what lies outside the principal subspace.

    alpha |R^T (z - u)| - logsumexp(W z + b), with u = -W^+ b the origin, R the directions in which
    ID embeddings z vary least, and alpha such that the virtual logit is on average as large as the
    largest logit (eqs. 5-7; the log of the paper's virtual-class probability's odds).
    """

    kind = "vim"
    Options = VirtualLogitOptions
    info = DetectorInfo(
        title="Virtual-logit matching (ViM)",
        paper="Wang et al., 2022, arXiv:2203.10807",
        needs=frozenset({"logits", "fitting"}),
    )

    backbone: Backbone
    options: VirtualLogitOptions
    origin: Tensor
    residual: Tensor

    def __init__(self, backbone: Backbone, options: Any = None, **of: Any) -> None:
        super().__init__(backbone, options, **of)
        size = backbone.embedding_dim
        chosen = self.options.dimension
        if chosen >= size:
            raise UserError(
                f"detector.dimension={chosen}: the backbone's embedding has {size} dimensions; "
                f"choose at most {size - 1}"
            )
        usual = 1000 if size >= 2048 else 512 if size > 512 else size // 2
        self.dimension = chosen or usual
        self.register_buffer("origin", torch.zeros(size))
        self.register_buffer("residual", torch.zeros(size, 0))
        """Scaled by alpha."""

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        embedded = self.backbone.embed(images)
        outside = torch.linalg.vector_norm((embedded - self.origin) @ self.residual, dim=1)
        return outside - torch.logsumexp(self.backbone.classify(embedded), dim=1)

    @torch.no_grad()
    def fit(self, data: FitData, *, seed: int) -> Self:
        """Finds the origin, the subspace and the scale, in float64.

        Args:
            data: ID images; labels are not read.
            seed: Not used.

        Returns:
            The detector itself.

        Raises:
            UserError: Logits are not linear in the embedding, there are fewer images than
                dimensions, or nothing lies outside the subspace.
        """
        size = self.backbone.embedding_dim
        with frozen(self.backbone):
            embedded, _ = collect(self.backbone.embed, data.id)
            weight, bias = self._head(embedded)
        if len(embedded) < size:
            raise UserError(
                f"detector.kind=vim: {len(embedded)} ID images do not span the {size} dimensions "
                f"of the embedding; give at least {size}"
            )
        origin = -torch.linalg.pinv(weight) @ bias
        centred = embedded - origin
        _, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        residual = directions[:, : size - self.dimension]
        length = torch.linalg.vector_norm(centred @ residual, dim=1).mean()
        if not length > 1e-9 * torch.linalg.vector_norm(centred, dim=1).mean():
            raise UserError(
                f"detector.dimension={self.dimension}: ID embeddings lie wholly within so many "
                "dimensions (their covariance is singular), and nothing is left outside; choose "
                "fewer"
            )
        alpha = (embedded @ weight.T + bias).amax(dim=1).mean() / length
        self.origin = origin.to(self.origin)
        self.residual = (alpha * residual).to(self.residual).contiguous()
        return self

    def _head(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of the last layer, from what it does."""
        like = self.origin
        probes = torch.eye(self.backbone.embedding_dim, dtype=like.dtype, device=like.device)
        bias = self.backbone.classify(torch.zeros_like(probes[:1]))[0].cpu().double()
        weight = self.backbone.classify(probes).cpu().double().T - bias.unsqueeze(1)
        some = embedded[:64]
        given = self.backbone.classify(some.to(like)).cpu().double()
        if not torch.allclose(some @ weight.T + bias, given, rtol=1e-3, atol=1e-3):
            raise UserError(
                f"detector.kind=vim: the logits of {self.backbone.title} are not linear in its "
                "embedding; choose another kind"
            )
        return weight, bias

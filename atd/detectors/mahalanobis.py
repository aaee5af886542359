"""Mahalanobis distance (Lee et al., 2018) and its relative form (Ren et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from atd.errors import UserError
from atd.inference import frozen

__all__ = ["Mahalanobis"]

_SHRINKAGE = 1e-6


class Mahalanobis(nn.Module):
    """Scores an image by its distance from the nearest class in the backbone's embedding.

    MD_k = (z - mu_k)^T S^-1 (z - mu_k) with one covariance S for all classes; the score is
    min_k MD_k (ATD paper, eqs. 1-3; Lee et al., arXiv:1807.03888). The relative form subtracts
    the distance MD_0 from one Gaussian fitted to all images (Ren et al., arXiv:2106.09022).

    Precision matrices are kept as inverse Cholesky factors W, so that a distance is a plain sum
    of squares |W (z - mu)|^2: never negative, and cheap to differentiate.

    Args:
        backbone: Has `embed(images) -> (N, D)` and `embedding_dim`.
        classes: Number of classes K; 1 for unlabelled images.
        relative: Score with MD_k - MD_0.
    """

    means: Tensor
    whitening: Tensor
    background_mean: Tensor
    background_whitening: Tensor

    def __init__(self, backbone: nn.Module, *, classes: int, relative: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.relative = relative
        size = int(backbone.embedding_dim)  # type: ignore[arg-type]
        self.register_buffer("means", torch.zeros(classes, size))
        self.register_buffer("whitening", torch.eye(size))
        self.register_buffer("background_mean", torch.zeros(size))
        self.register_buffer("background_whitening", torch.eye(size))

    def extra_repr(self) -> str:
        """What `repr` shows, and with it what a fingerprint of the module covers."""
        return f"relative={self.relative}"

    def logits(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        embedded: Tensor = self.backbone.embed(images)  # type: ignore[operator]
        centred = embedded - self.background_mean
        # Whitening before subtracting the K means costs K times less than the other way round.
        centres = (self.means - self.background_mean) @ self.whitening.T
        apart = (centred @ self.whitening.T).unsqueeze(1) - centres
        nearest = apart.square().sum(dim=2).amin(dim=1)
        if not self.relative:
            return nearest
        return nearest - (centred @ self.background_whitening.T).square().sum(dim=1)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Mahalanobis:
        """Estimates means and covariances, in one pass and in float64.

        Args:
            batches: Float images (B, C, H, W) in [0, 1] on the backbone's device, and labels
                (B,); labels below 0 mean unlabelled and are taken as one class.

        Returns:
            The module itself.

        Raises:
            UserError: No images, or a label that the backbone does not know.
        """
        with frozen(self.backbone):
            pairs = [(self._embed(images), labels.cpu().long()) for images, labels in batches]
        if not pairs:
            raise UserError("baseline mahalanobis: there are no ID training images to fit it on")
        embedded = torch.cat([values for values, _ in pairs])
        labels = torch.cat([values for _, values in pairs]).clamp_min(0)
        if labels.max() >= len(self.means):
            raise UserError(
                f"baseline mahalanobis: label {int(labels.max())} in the ID images, but the "
                f"backbone knows {len(self.means)} classes"
            )
        means = _class_means(embedded, labels, len(self.means))
        overall = embedded.mean(dim=0)
        self.means.copy_(means)
        self.whitening.copy_(_whitening(embedded - means[labels]))
        self.background_mean.copy_(overall)
        self.background_whitening.copy_(_whitening(embedded - overall))
        return self

    def _embed(self, images: Tensor) -> Tensor:
        embedded: Tensor = self.backbone.embed(images)  # type: ignore[operator]
        return embedded.cpu().double()


def _class_means(embedded: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Means (K, D); a class without images repeats another's, which no minimum notices."""
    count = torch.bincount(labels, minlength=classes)
    sums = torch.zeros(classes, embedded.shape[1], dtype=embedded.dtype)
    means = sums.index_add_(0, labels, embedded) / count.clamp_min(1).unsqueeze(1)
    return torch.where(count.unsqueeze(1) > 0, means, means[labels[0]])


def _whitening(centred: Tensor) -> Tensor:
    """W with W^T W = S^-1 for rows with covariance S.

    Dead units make S singular; a millionth of its mean variance on the diagonal keeps W finite
    without changing a distance that anyone could measure.
    """
    covariance = centred.T @ centred / len(centred)
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    scale = covariance.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    factor = torch.linalg.cholesky(covariance + _SHRINKAGE * scale * identity)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse

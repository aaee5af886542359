"""Statistics of ID images by class, in float64, for the kinds that are fitted to them."""

from __future__ import annotations

import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from atd.data.reading import notice
from atd.detectors.base import Detector
from atd.errors import UserError

__all__ = ["class_means", "require_labels", "require_spread", "whitening"]

_SHRINKAGE = 1e-6


def require_labels(detector: Detector, labels: Tensor, classes: int) -> None:
    """Refuses ID images that have no label, or one that the backbone does not know.

    Args:
        detector: Who asks, for messages.
        labels: (N,) int64, -1 where there are none.
        classes: How many classes the backbone tells apart.

    Raises:
        UserError: A label is missing or outside the backbone's classes.
    """
    title = f"detector.kind={detector.kind}"
    missing = int((labels < 0).sum())
    if missing:
        raise UserError(
            f"{title}: it needs the class of every ID image, and {missing} of {len(labels)} have "
            "none; give class folders or labels, or choose a kind that needs none (knn, vim)"
        )
    if int(labels.max()) >= classes:
        raise UserError(
            f"{title}: label {int(labels.max())} in the ID images, but the backbone knows "
            f"{classes} classes (0 to {classes - 1}); use the images it was trained on"
        )


def require_spread(detector: Detector, values: Tensor) -> None:
    """Refuses embeddings (N, D) that are all the same: no distance can be measured in them.

    Raises:
        UserError: They do not vary.
    """
    if len(values) < 2 or not values.var(0).sum() > 1e-12 * values.square().mean(0).sum():
        raise UserError(
            f"detector.kind={detector.kind}: the {len(values)} ID image(s) have one and the same "
            "embedding; give more images, or a backbone that is trained"
        )


def class_means(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Means (K, D) of values (N, D); a class without images repeats another's mean."""
    count = torch.bincount(labels, minlength=classes)
    sums = torch.zeros(classes, values.shape[1], dtype=values.dtype)
    means = sums.index_add_(0, labels, values) / count.clamp_min(1).unsqueeze(1)
    return torch.where(count.unsqueeze(1) > 0, means, means[labels[0]])


def whitening(detector: Detector, centred: Tensor, freedom: int) -> Tensor:
    """W (D, D) with W^T W = S^-1, S the covariance of centred rows (N, D).

    Dead units make S singular: a millionth of its mean variance on the diagonal keeps W finite
    without changing a distance that anyone could measure. With fewer images than dimensions S says
    nothing of most directions; then it is shrunk towards a multiple of the identity by as much as
    Ledoit & Wolf (2004) find best, and a notice says so.

    Args:
        detector: Who asks, for messages.
        centred: Rows without their means, float64.
        freedom: How many independent rows there are: N less the number of means.
    """
    dimension, shrinkage = centred.shape[1], _SHRINKAGE
    covariance = centred.T @ centred / len(centred)
    if freedom < dimension:
        best = float(ledoit_wolf_shrinkage(centred.numpy(), assume_centered=True))
        shrinkage = max(best, shrinkage)
        notice(
            f"detector.kind={detector.kind}: {len(centred)} ID images for {dimension} dimensions; "
            f"their covariance is shrunk by {shrinkage:.2g} (Ledoit-Wolf)"
        )
        covariance = (1 - shrinkage) * covariance
    scale = centred.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
    identity = torch.eye(dimension, dtype=centred.dtype)
    factor = torch.linalg.cholesky(covariance + shrinkage * scale * identity)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.contiguous()

"""What a detector is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atd.data.fetching import batches
from atd.data.images import ImageSet
from atd.errors import UserError
from atd.inference import as_float

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["Batches", "FitData", "SetBatches", "collect", "fit_to_sets"]

Batches = Iterable[tuple[Tensor, Tensor]]
"""Float images (B, C, H, W) in [0, 1] on the detector's device, with labels (B,) int64, which are
-1 where there are none. It can be iterated any number of times, in the same order."""


@dataclass(frozen=True, kw_only=True)
class FitData:
    """Images to fit a detector on."""

    id: Batches
    """In-distribution images and their labels."""
    outliers: Batches | None = None
    """Outliers, for the kinds that need them."""


@dataclass(frozen=True, eq=False)
class SetBatches:
    """An image set as `Batches`."""

    images: ImageSet
    device: torch.device
    size: int = 256

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.arange(len(self.images)).split(self.size)
        for pixels, labels, _ in batches(self.images, rows):
            yield as_float(pixels.to(self.device)), labels.to(self.device)


@torch.no_grad()
def collect(function: Callable[[Tensor], Tensor], batches: Batches) -> tuple[Tensor, Tensor]:
    """A function's values of all images.

    Args:
        function: Maps images (B, C, H, W) to values (B, ...).
        batches: The images.

    Returns:
        Values (N, ...) in float64 and labels (N,) int64, on the CPU.

    Raises:
        UserError: There are no images, or a value is not finite.
    """
    pairs = [(function(images).cpu().double(), labels.cpu().long()) for images, labels in batches]
    if not pairs:
        raise UserError("there are no images to fit the detector on")
    values, labels = (torch.cat(part) for part in zip(*pairs, strict=True))
    if not values.isfinite().all():
        raise UserError("the backbone gives values that are not finite; its weights are damaged")
    return values, labels


def fit_to_sets(
    detector: Detector, inside: ImageSet | None, outliers: ImageSet | None, *, seed: int
) -> Detector:
    """Fits a detector to image sets, as far as its kind is fitted at all.

    Args:
        detector: The detector, on its device.
        inside: ID images.
        outliers: Outliers; read only by kinds that need them.
        seed: For kinds that draw random numbers.

    Returns:
        The detector itself, frozen and in evaluation mode.

    Raises:
        UserError: Images are missing, or do not suffice.
    """
    needs, device = detector.info.needs, detector.device
    detector.eval()
    if "fitting" in needs and (inside is None or ("outliers" in needs and outliers is None)):
        lacking = "ID images" if inside is None else "outliers"
        raise UserError(f"detector.kind={detector.kind}: it is fitted to {lacking}; give some")
    outside = None
    if outliers is not None and "outliers" in needs:
        outside = SetBatches(outliers, device)
    if inside is not None:  # a kind that is not fitted may still refuse a network by them
        detector.fit(FitData(id=SetBatches(inside, device), outliers=outside), seed=seed)
    return detector.requires_grad_(False)

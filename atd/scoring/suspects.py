"""The most suspicious images of a stream, and what there is to say about each."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from atd.attacks.objective import value_and_gradient
from atd.data.decoding import UnreadableImage, read_image
from atd.detectors.base import Detector
from atd.detectors.calibration import Pictures, comparable
from atd.detectors.streaming import FileScore
from atd.inference import as_float
from atd.reporting.suspects import Neighbour, Suspect

__all__ = ["Suspects", "explained"]

_AT_ONCE = 16
_NEIGHBOURS = 5


class Suspects:
    """Keeps the rows with the largest scores of a stream of any length.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0
        self._heap: list[tuple[float, int, FileScore]] = []

    def passing(self, rows: Iterable[FileScore]) -> Iterator[FileScore]:
        """Passes rows on; those without a score are not kept."""
        for row in rows:
            self.seen += 1
            if row.score is not None:
                keep = heapq.heappush if len(self._heap) < self.count else heapq.heappushpop
                keep(self._heap, (row.score, -self.seen, row))
            yield row

    @property
    def worst(self) -> list[FileScore]:
        """The kept rows, the most suspicious first."""
        return [row for _, _, row in sorted(self._heap, reverse=True, key=lambda item: item[:2])]


def explained(detector: Detector, rows: Sequence[FileScore]) -> list[Suspect]:
    """Looks at images again: the gradient of their score, and the nearest calibration images.

    Args:
        detector: The detector, with its calibration sample if it has one.
        rows: The rows to explain. An image that cannot be read any more is left out.

    Returns:
        What is to be shown, in the order of the rows.
    """
    config, found = detector.config, []
    for row in rows:
        try:
            size = config.image_size
            found.append((row, read_image(row.path, config.channels, size, config.scale)))
        except UnreadableImage:
            continue
    suspects = []
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        images = as_float(torch.stack([image for _, image in part]).to(detector.device))
        maps = _gradient_maps(detector, images)
        near = _neighbours(detector, images)
        suspects += [
            Suspect(row, image.numpy(), maps[number] if maps is not None else None, near[number])
            for number, (row, image) in enumerate(part)
        ]
    return suspects


def _gradient_maps(detector: Detector, images: Tensor) -> Tensor | None:
    """How much the score changes with each pixel (N, H, W); None for a kind without a gradient."""
    if detector.info.gradient == "none":
        return None
    _, gradient = value_and_gradient(detector.surrogate, images)
    return gradient.nan_to_num(0.0, 0.0, 0.0).abs().sum(dim=1).cpu()


@torch.no_grad()
def _neighbours(detector: Detector, images: Tensor) -> list[list[Neighbour]]:
    """The calibration images that are closest by the cosine of what the detector reads."""
    kept = None if detector.calibration is None else detector.calibration.pictures
    if kept is None or detector.calibration is None:
        return [[] for _ in images]
    features = comparable(detector, images)
    if features.shape[1] != kept.features.shape[1]:
        return [[] for _ in images]
    likeness = normalize(features) @ normalize(kept.features).T
    best = likeness.topk(min(_NEIGHBOURS, len(kept)), dim=1)
    scores = detector.calibration.scores
    return [
        [_neighbour(kept, scores, row, value) for value, row in zip(values, rows, strict=True)]
        for values, rows in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _neighbour(kept: Pictures, scores: Tensor, row: int, likeness: float) -> Neighbour:
    name = os.path.basename(kept.names[row])
    return Neighbour(kept.images[row].numpy(), name, float(scores[kept.rows[row]]), likeness)

"""Scores of the images that a person named, clean and under the evaluation's attack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from atd.data.given import given_images, require_given
from atd.data.images import ImageSet
from atd.data.listing import LeftOut
from atd.data.reading import FilePixels, notice
from atd.data.remarks import Remarks
from atd.data.sampler import evenly_spaced
from atd.detectors.base import Detector
from atd.detectors.calibration import CalibrationSample, Pictures, comparable
from atd.detectors.streaming import score_files
from atd.errors import UserError, printable
from atd.evaluation.progress import progress_bar
from atd.evaluation.settings import Settings
from atd.inference import as_float
from atd.metrics import Array

__all__ = ["Scored", "calibration_sample", "score_named", "worst_scores"]

_THUMBNAIL = 64
"""Largest side in pixels of a calibration image that is kept."""
_AT_ONCE = 32


@dataclass(frozen=True)
class Scored:
    """Readable images with their scores (N,), float64."""

    paths: Sequence[str]
    scores: Array


def score_named(
    detector: Detector, names: Sequence[str], option: str, *, null: bool = False
) -> Scored:
    """Scores images; those that cannot be read, or were named before, are left out and told.

    Args:
        detector: The detector.
        names: Files, folders, or `-` for names on standard input.
        option: Which option named them, for messages.
        null: Whether names on standard input end with NUL.

    Returns:
        The images that have a score.

    Raises:
        UserError: There is none, a score is not finite, or all are equal.
    """
    require_given(names)
    left_out, remarks = LeftOut(), Remarks()
    paths: list[str] = []
    scores: list[float] = []
    images = _distinct(given_images(names, left_out, null=null), left_out)
    for row in score_files(detector, images, remarks):
        if row.score is not None:
            paths.append(row.path)
            scores.append(row.score)
        elif row.readable:
            raise UserError(f"{printable(row.path)}: {row.error}; is the detector damaged?")
        else:
            left_out.add("unreadable image(s)", row.path)
    if left_out:
        notice(f"{option}: {left_out.total} left out: {left_out}")
    for line in remarks.lines(detector.config.scale):
        notice(line)
    if not scores:
        raise UserError(f"{option}: there is no image that can be read")
    if len(scores) > 1 and min(scores) == max(scores):
        raise UserError(
            f"{option}: all {len(scores):,} images score {scores[0]:.5g}, so that no threshold "
            "tells one from another; are they different images, and is the detector trained?"
        )
    return Scored(paths, np.array(scores))


def _distinct(paths: Iterable[str], left_out: LeftOut) -> Iterator[str]:
    """Each file once: what is said of n images holds for n different ones."""
    seen: set[str] = set()
    for path in paths:
        place = os.path.abspath(path)
        if place in seen:
            left_out.add("image(s) named before", path)
        else:
            seen.add(place)
            yield path


def worst_scores(
    detector: Detector, scored: Scored, settings: Settings, direction: Literal[1, -1]
) -> Array:
    """The worst scores (N,) that the evaluation's attack finds for images.

    Args:
        detector: The detector.
        scored: The images.
        settings: The attack.
        direction: +1 raises scores (ID images), -1 lowers them.
    """
    config = detector.config
    pixels = FilePixels(scored.paths, config.channels, config.image_size, config.scale)
    attack = settings.attack()
    with progress_bar("attacking", attack.passes * len(scored.paths), show=True) as tick:
        images = ImageSet.of("the images", pixels)
        return settings.score(detector, images, direction, attack, tick).attacked


@torch.no_grad()
def calibration_sample(detector: Detector, scored: Scored, pictures: int) -> CalibrationSample:
    """What the detector keeps: all scores, and some of the images, small.

    Args:
        detector: The detector.
        scored: The ID images.
        pictures: How many images are kept, evenly spread.
    """
    scores = torch.from_numpy(scored.scores).float()
    if not pictures:
        return CalibrationSample(scores)
    config, count = detector.config, len(scored.paths)
    rows = evenly_spaced(count, pictures)
    names = [scored.paths[row] for row in rows.tolist()]
    whole = FilePixels(names, config.channels, config.image_size, config.scale)
    side = min(config.image_size, _THUMBNAIL)
    small = FilePixels(names, config.channels, side, config.scale)
    features = [
        comparable(detector, as_float(whole.fetch(part.tolist()).to(detector.device)))
        for part in torch.arange(len(names)).split(_AT_ONCE)
    ]
    images = small.fetch(range(len(names)))
    kept = Pictures.of(rows, images, torch.cat(features), names)
    return CalibrationSample(scores, kept)

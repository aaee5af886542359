"""Whether a written file gives the scores of the detector it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from atd.attacks import pgd
from atd.data.decoding import decode
from atd.data.drawing import patches
from atd.detectors.base import Detector
from atd.detectors.formats.traced import FeatureScorer, Run, Scorer
from atd.inference import as_float

__all__ = ["BATCHES", "Samples", "deviations", "pictures"]

BATCHES = (0, 1, 2, 7, 64, 1000, 3000)
_ALWAYS = 64
_MOST_WORK = 1e11
"""Floating-point operations of a batch of more than 64, some seconds on one core."""
_EACH = 24  # pictures of a sort
_ATTACKED = 8  # pictures attacked in each direction


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs to compare on, and the scores that are right.

    Attributes:
        groups: Inputs (N, ...) by what they are, such as `real` or `attacked`.
        expected: Scores (N,) of each group, as the detector gives them.
        batches: Sizes of batches to try.
        work: Floating-point operations of one input.
    """

    groups: dict[str, Tensor]
    expected: dict[str, Tensor]
    batches: tuple[int, ...]
    work: float

    @classmethod
    @torch.no_grad()
    def of(cls, scorer: Scorer | FeatureScorer, images: dict[str, Tensor]) -> Samples:
        """Samples of uint8 images (N, C, H, W), by what they are."""
        groups = {name: scorer.inputs(some) for name, some in images.items()}
        with FlopCounterMode(display=False) as counter:
            scorer(groups["real"][:1])
        work = counter.get_total_flops()
        return cls(
            groups,
            {name: scorer(inputs) for name, inputs in groups.items()},
            tuple(size for size in BATCHES if size <= _ALWAYS or size * work <= _MOST_WORK),
            work,
        )

    def tolerance(self) -> float:
        """1e-4 deviations of the score, but no less than float32 rounding adds up to."""
        scores = torch.cat(list(self.expected.values()))
        return max(1e-4 * scores.std().item(), 1e-5 * scores.abs().max().item(), 1e-6)

    def seen_by(self, run: Run) -> Samples:
        """The same inputs with the scores that a file gives them."""
        with torch.no_grad():
            expected = {name: run(inputs) for name, inputs in self.groups.items()}
        return Samples(self.groups, expected, self.batches, self.work)


def deviations(run: Run, samples: Samples, name: str) -> dict[str, float]:
    """The largest deviation from the expected scores, in each group and at each batch size.

    Args:
        run: A written file.
        samples: What to compare on. A batch holds inputs of all groups, over and over.
        name: What messages call the file.

    Raises:
        RuntimeError: A deviation is larger than `samples.tolerance`, or a score is undefined.
    """
    inputs = torch.cat(list(samples.groups.values()))
    scores = torch.cat(list(samples.expected.values()))
    found = {
        group: _deviation(run, given, samples, samples.expected[group], f"{name}: {group}")
        for group, given in samples.groups.items()
    }
    for size in samples.batches:
        rows = torch.arange(size) % len(inputs)
        label = f"batch {size}"
        found[label] = _deviation(run, inputs[rows], samples, scores[rows], f"{name}: {label}")
    return found


def _deviation(run: Run, inputs: Tensor, samples: Samples, expected: Tensor, what: str) -> float:
    with torch.no_grad():
        scores = run(inputs)
    if scores.shape != expected.shape:
        raise RuntimeError(f"{what} gives scores of shape {tuple(scores.shape)}")
    if not len(scores):
        return 0.0
    deviation = (scores - expected).abs().max().item()
    tolerance = samples.tolerance()
    if not deviation <= tolerance:
        raise RuntimeError(
            f"{what}: scores differ by {deviation:.2g} (allowed {tolerance:.2g}); "
            "the export was deleted"
        )
    return deviation


def pictures(detector: Detector, real: Tensor | None) -> dict[str, Tensor]:
    """uint8 images to compare on, by what they are.

    Args:
        detector: The detector; where it has a gradient, images are attacked along it, as those
            lie near thresholds.
        real: Images (N, C, H, W) of the user's own; None takes patches of a photograph.

    Returns:
        `real`; `blobs` with noise; `boundary`: black, white, and both in stripes; `attacked`.
    """
    generator = torch.Generator().manual_seed(0)
    channels, size = detector.config.channels, detector.config.image_size
    noise = torch.rand(_EACH, channels, size, size, generator=generator)
    coarse = torch.rand(_EACH, channels, 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, size=(size, size), mode="bilinear")
    rough = torch.rand(_EACH, 1, 1, 1, generator=generator) ** 3
    found = {
        "real": _photo_patches(channels, size) if real is None else real[:_EACH],
        "blobs": _as_uint8(smooth + rough * (noise - smooth)),
        "boundary": _boundary(channels, size),
    }
    if detector.info.gradient != "none":
        half = _ATTACKED // 2
        images = as_float(torch.cat([found["real"][:half], found["blobs"][:half]]))
        climbed = detector.surrogate
        attacked = [
            pgd(objective, images, epsilon=8 / 255, steps=10).images
            for objective in (climbed, lambda images: -climbed(images))
        ]
        found["attacked"] = _as_uint8(torch.cat(attacked))
    return found


def _photo_patches(channels: int, size: int) -> Tensor:
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("flower.jpg"))
    cut = patches(photo, _EACH, np.random.default_rng(0))
    return torch.stack([decode(patch, channels, size) for patch in cut])


def _boundary(channels: int, size: int) -> Tensor:
    """All 0, all 255, and 0 and 255 in columns."""
    columns = (torch.arange(size) % 2).expand(channels, size, size)
    whole = torch.zeros(channels, size, size), torch.ones(channels, size, size), columns
    return _as_uint8(torch.stack([item.float() for item in whole]))


def _as_uint8(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)

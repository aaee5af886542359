"""What a certificate costs, said before it starts."""

from __future__ import annotations

import time

import torch

from atd.detectors.base import Detector
from atd.evaluation.certificate import certificate_passes
from atd.evaluation.rounds import ImageSets
from atd.evaluation.settings import Settings
from atd.evaluation.smoothing import Smoothing
from atd.evaluation.subject import Subject
from atd.inference import frozen

__all__ = ["cost_words"]

_TIMED = 3


def cost_words(
    detector: Detector, sets: ImageSets, smoothing: Smoothing, settings: Settings, attacked: int
) -> str:
    """Passes of a certificate and about how long they take, by a few timed ones.

    Args:
        detector: The detector, on the right device.
        sets: The image sets.
        smoothing: How scores are smoothed and what is claimed.
        settings: Batch size, device and processes.
        attacked: Images of either side that are attacked.
    """
    images = len(sets.id_test) + sum(map(len, sets.ood_test.values()))
    passes = certificate_passes(smoothing, sets, attacked)
    processes = 1 if settings.accelerator is None else settings.accelerator.num_processes
    seconds = passes * _pass_seconds(detector, sets, settings) / processes
    unit = f"{max(1, round(seconds))} s" if seconds < 90 else f"{seconds / 60:,.0f} min"
    return (
        f"certificate: {images:,} images x {smoothing.draws:,} noisy copies, and for each radius "
        f"an attack on up to {attacked} images of either side: {passes:,} passes, about {unit}, by "
        f"{_TIMED} timed batches, on top of the evaluation"
    )


def _pass_seconds(detector: Detector, sets: ImageSets, settings: Settings) -> float:
    """Seconds that a forward pass takes for each image of a batch."""
    image = sets.id_test.fetch(torch.tensor([0])).to(settings.place).float() / 255
    batch = image.expand(settings.batch_size, *image.shape[1:])
    subject, times = Subject(detector, whole_blocks=True), []
    with frozen(detector), torch.no_grad():
        for some in (batch[:8], *[batch] * _TIMED):  # the first one sets things up
            started = time.perf_counter()
            subject.score(some).cpu()
            times.append(time.perf_counter() - started)
    return min(times[1:]) / len(batch)

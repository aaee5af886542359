"""What an evaluation takes, before it is made: its attacks and its checks, on how many images."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Literal

import torch

from atd.config import EvaluateConfig
from atd.detectors.base import Detector
from atd.evaluation.judgement import PROBED
from atd.evaluation.probes import PROBE_PASSES
from atd.evaluation.tiers import resolve_tier

__all__ = ["RUNGS", "evaluation_seconds", "richest_evaluation", "seconds_per_step"]

_IMAGES = 32

RUNGS: tuple[tuple[Literal["smoke", "paper", "standard"], int, bool], ...] = (
    ("smoke", 25, False),
    ("smoke", 50, False),
    ("paper", 50, False),
    ("paper", 100, False),
    ("paper", 200, False),
    ("standard", 100, False),
    ("standard", 200, False),
    ("standard", 200, True),
    ("standard", 500, True),
    ("standard", 1000, True),
)
"""Evaluations from poor to rich: tier, images a set, and whether baselines are judged too."""


def seconds_per_step(detector: Detector, device: torch.device) -> float:
    """Seconds that a step of an attack, forward and backward, takes for each image.

    Args:
        detector: The detector, on the device.
        device: Where it is.
    """
    made = detector.config
    shape = (_IMAGES, made.channels, made.image_size, made.image_size)
    times = []
    for _ in range(4):  # the first time sets things up
        x = torch.rand(shape, device=device).requires_grad_(True)
        started = time.perf_counter()
        torch.autograd.grad(detector.logits(x).sum(), x)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / _IMAGES


def evaluation_seconds(
    options: EvaluateConfig, step: float, counts: Sequence[int], scores: float
) -> float:
    """Seconds of an evaluation whose attacks never end early, its checks included.

    Args:
        options: Tier, limit and certificate, which baselines do not get.
        step: `seconds_per_step`.
        counts: Images of the ID test set, then of each OOD test set.
        scores: Detectors that are judged, the baselines among them; a slow one counts more.
    """
    inside, *outside = (min(count, options.limit or count) for count in counts)
    forward, backward = resolve_tier(options).passes
    probed = min(PROBED, inside) + min(PROBED, sum(outside))
    # A backward pass costs two forward; of the passes of the checks about half are backward.
    steps = (inside + sum(outside)) * (forward + 2 * backward) / 3 + probed * PROBE_PASSES / 2
    copies = (inside + sum(outside)) * options.certify_draws if options.certify else 0
    return step * (scores * steps + copies / 3)


def richest_evaluation(
    options: EvaluateConfig,
    step: float,
    counts: Sequence[int],
    *,
    scores: float,
    comparable: bool,
    seconds: float,
) -> EvaluateConfig:
    """The richest of the `RUNGS` that fits a time, or the poorest one there is.

    Args:
        options: The options; only baselines that they name are judged.
        step: `seconds_per_step`.
        counts: Images of the ID test set, then of each OOD test set.
        scores: What the detector itself counts for.
        comparable: Whether baselines can be judged.
        seconds: The time.

    Returns:
        The options with another tier and limit, and with or without the baselines.
    """
    chosen = None
    for tier, limit, compared in RUNGS:
        named = options.baselines if compared else []
        rung = dataclasses.replace(options, tier=tier, limit=limit, baselines=named)
        judged = scores + (len(named) if comparable else 0)
        if chosen is None or evaluation_seconds(rung, step, counts, judged) <= seconds:
            chosen = rung
    assert chosen is not None
    return chosen

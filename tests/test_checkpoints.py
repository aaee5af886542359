"""The detectors that are shipped with the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import atd
from atd.config import DataConfig
from atd.data.bundled import bundled_set

CIFAR10 = Path(__file__).parents[1] / "checkpoints" / "cifar10"


def test_the_cifar10_detector_loads_and_flags_noise():
    detector = atd.load(CIFAR10 / "detector")
    assert detector.kind == "atd"
    assert detector.threshold is not None
    noise = bundled_set("noise", "all", DataConfig(image_size=32, channels=3))
    flagged = detector.predict(noise.fetch(range(0, len(noise), 20)))
    assert flagged.double().mean() > 0.6


def test_its_threshold_accepts_what_it_says():
    detector = atd.load(CIFAR10 / "detector")
    scores = np.load(CIFAR10 / "scores.npz")["id_val.clean"]
    assert abs((torch.from_numpy(scores) <= detector.threshold).double().mean() - 0.95) < 0.001

"""Small random image sets, and the one process that a test is."""

from __future__ import annotations

import pytest
import torch

from atd.data.images import HeldPixels, ImageSet
from atd.training.processes import Processes
from atd.training.stream import Stream


@pytest.fixture(scope="session")
def processes():
    return Processes("cpu")


@pytest.fixture(scope="session")
def random_images():
    def make(name, count=24, size=8, channels=1, classes=("a", "b", "c"), low=0, high=256):
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        shape = (count, channels, size, size)
        pixels = torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)
        held = HeldPixels(pixels, [f"{name}-{index}" for index in range(count)])
        labels = torch.arange(count) % len(classes) if classes else None
        return ImageSet.of(name, held, labels, classes)

    return make


@pytest.fixture(scope="session")
def stream_of():
    def make(images, batch_size=8, augment="none", seed=0):
        return Stream(images, batch_size, slice(0, batch_size), seed, images.name, augment)

    return make

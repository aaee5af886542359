"""Small random image sets, small trainings, and the one process that a test is."""

from __future__ import annotations

import pytest
import torch
from descent import Silent
from gan_steps import BATCH, LATENT

from atd.config import AtdConfig
from atd.data.images import HeldPixels, ImageSet
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.gan import FeatureGenerator, PixelGenerator
from atd.training.adversarial_gan import AdversarialGan
from atd.training.logbook import Logbook
from atd.training.loop import train_task
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


@pytest.fixture
def train(tmp_path, processes):
    """Trains a task in a folder of the test's own."""

    def run(task, name="run", **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        logbook = Logbook(folder)
        logbook._writer = Silent()
        train_task(task, folder, processes, logbook, **options)
        return task

    return run


@pytest.fixture
def make_gan(processes, random_images, stream_of):
    """Makes a small training of the discriminator."""

    def task(seed=0, bfloat16=False, start=0, training=AdversarialGan, **options):
        config = AtdConfig(
            **{"epochs": 2, "steps": 3, "epsilon": 0.05, "latent_dim": LATENT, **options}
        )
        pixels = config.features == "pixels"
        torch.manual_seed(start)
        detector = build_detector(
            DetectorConfig(
                kind="atd",
                backbone=None if pixels else {"width": 4, "features": "last"},
                classes=["a", "b", "c"],
                image_size=8,
                channels=1,
                options={"normalisation": config.normalisation},
            )
        )
        # The default weights, N(0, 0.02), leave next to no slope for an attack to climb.
        for parameter in detector.discriminator.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
        if pixels:
            generator = PixelGenerator(1, 8, LATENT, config.normalisation, width=4)
        else:
            floor = torch.full((detector.feature_mean.numel(),), -0.3)
            generator = FeatureGenerator(len(floor), LATENT, floor, config.normalisation)
        streams = (
            stream_of(random_images("id", high=160), BATCH, seed=seed),
            stream_of(random_images("outlier", 16, low=80), BATCH, seed=seed),
        )
        return training(
            detector,
            None if config.generator == "none" else generator,
            streams,
            (random_images("id-val", 12, high=160), random_images("outlier-val", 10, low=80)),
            config,
            processes=processes,
            seed=seed,
            bfloat16=bfloat16,
        )

    return task

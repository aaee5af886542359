"""Images to score, and a small detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from score_command import SIZE, make_detector

from atd.detectors.base import Detector


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Seventy images (more than a batch) of the detector's size, as files and as one tensor."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (70, SIZE, SIZE, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02}.png")
    return folder, torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def expected(images, tmp_path_factory):
    folder = make_detector(tmp_path_factory.mktemp("plain") / "detector", None)
    return Detector.from_pretrained(folder).score(images[1])


@pytest.fixture(scope="session")
def detector(expected, tmp_path_factory):
    """A detector whose threshold lies in the middle of the scores."""
    threshold = expected.median().item()
    return make_detector(tmp_path_factory.mktemp("detector") / "detector", threshold)

"""Small detectors, fresh or fitted, and images for them."""

from __future__ import annotations

import json

import torch

from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig

SIZE = 8


def make_detector(backbone=True, **values):
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 4, "features": "last"} if backbone else None,
        classes=["a", "b"],
        image_size=SIZE,
        channels=3,
        options={"normalisation": "layer"},
        **values,
    )
    return build_detector(config)


def some_images(count=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def line_of(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def edit_config(folder, **values):
    """Changes keys of a saved detector's description."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

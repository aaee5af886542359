"""The scoring command with a small detector, as a function of its words."""

from __future__ import annotations

import csv
import io

import pytest
import torch

from atd.commands import score
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig

SIZE = 8


def make_detector(folder, threshold):
    torch.manual_seed(0)
    backbone = {"width": 4, "features": "last"}
    config = DetectorConfig(
        kind="atd",
        backbone=backbone,
        classes=["a", "b"],
        image_size=SIZE,
        channels=3,
        options={"normalisation": "layer"},
        threshold=threshold,
    )
    build_detector(config).save_pretrained(folder)
    return folder


def run(capsys, *words):
    score.main([str(word) for word in words])
    return capsys.readouterr().out


def fail(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        score.main([str(word) for word in words])
    assert caught.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    return message


def table(text):
    return list(csv.DictReader(io.StringIO(text)))

"""Detectors that were saved before there were kinds give the same scores, bit for bit."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import torch

from atd.detectors.atd import ATD
from atd.detectors.base import Detector

FOLDER = Path(__file__).parent / "format1"


@pytest.mark.parametrize("name", ["backbone", "pixels"])
def test_old_detectors_score_as_before(tmp_path, name):
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        # Python 3.11 has had the filter since 3.11.4 only.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safe)
    made = json.loads((FOLDER / "expected.json").read_text())
    images = torch.tensor(made["images"], dtype=torch.uint8).view(-1, 3, 8, 8)
    expected = torch.tensor([float.fromhex(score) for score in made["scores"][name]])
    detector = Detector.from_pretrained(tmp_path / name)
    scores = detector.score(images)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    here = (torch.__version__, torch.backends.cpu.get_cpu_capability())
    if here == (made["torch"], made["processor"]):  # elsewhere the same sums are rounded otherwise
        assert torch.equal(scores, expected)

    assert type(detector) is ATD
    config = detector.config
    assert (config.kind, config.name, config.classes) == ("atd", name, ["a", "b", "c"])
    assert (config.threshold, config.threshold_note) == (0.25, "made up")
    assert config.training == {"run": {"name": name}}

    detector.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["format"] == 2
    assert torch.equal(Detector.from_pretrained(tmp_path / "again").score(images), scores)

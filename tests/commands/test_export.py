"""The export command; what it writes is tested in `tests/models/test_exported.py`."""

from __future__ import annotations

import pytest
import torch

from atd.commands import export
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig


@pytest.fixture
def detector(tmp_path):
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 4, "features": "last"},
        classes=["a", "b"],
        image_size=8,
        channels=1,
        options={"normalisation": "layer"},
    )
    build_detector(config).save_pretrained(tmp_path / "detector")
    return tmp_path / "detector"


def test_writes_beside_the_detector_and_prints_the_files(detector, capsys):
    export.main([str(detector), "--formats", "pt2"])
    files = [str(detector.parent / "export" / name) for name in ("detector.pt2", "manifest.json")]
    assert capsys.readouterr().out.split() == files
    assert {str(file) for file in (detector.parent / "export").iterdir()} == set(files)


def test_output_is_where_asked(detector, tmp_path):
    export.main([str(detector), "--formats", "pt2,", "--output", str(tmp_path / "a" / "b")])
    assert (tmp_path / "a" / "b" / "detector.pt2").is_file()


@pytest.mark.parametrize("formats", ["coreml", ""])
def test_mistakes_are_one_line_and_leave_nothing(detector, capsys, formats):
    with pytest.raises(SystemExit) as caught:
        export.main([str(detector), "--formats", formats])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --formats")
    assert message.count("\n") == 1
    assert [file.name for file in detector.parent.iterdir()] == ["detector"]

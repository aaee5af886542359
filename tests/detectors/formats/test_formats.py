"""Formats are refused in one line where something is missing."""

from __future__ import annotations

import importlib.util

import pytest

from atd.detectors.formats import FORMATS, check_formats
from atd.errors import UserError


@pytest.mark.parametrize(
    ("names", "part", "images", "message"),
    [
        ([], "detector", True, "--formats: name one or more of pt2, onnx, "),
        (["onnx8"], "detector", True, "--formats onnx8: unknown; the nearest is onnx"),
        (["pt2", "int8"], "detector", True, "--formats int8: unknown; the nearest is onnx-int8"),
        (["onnx-int8"], "detector", False, "by: --calibration IMAGES"),
        (["onnx-int8"], "discriminator", True, "onnx-int8: not for --part discriminator"),
        (["web"], "discriminator", True, "web: not for --part discriminator"),
    ],
)
def test_what_is_missing_is_named(names, part, images, message):
    with pytest.raises(UserError) as error:
        check_formats(names, part, images=images)
    assert message in str(error.value)


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch):
    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else present(name)
    )
    with pytest.raises(UserError) as error:
        check_formats(["openvino"], "detector", images=False)
    assert str(error.value) == "--formats openvino: more is needed: pip install openvino"


def test_a_part_has_files_of_its_own():
    assert FORMATS["onnx"].name("detector") == "detector.onnx"
    assert FORMATS["onnx"].name("discriminator") == "discriminator.onnx"

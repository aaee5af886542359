"""What may be changed in the description of a saved detector, and what may not."""

from __future__ import annotations

import pytest
from making import edit_config, make_detector

from atd.detectors.base import Detector
from atd.errors import UserError


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": {"width": 4, "features": "last", "activation": "silu"}},
        {"backbone": {"width": 4, "features": "last", "stem_stride": 1}},
        {"image_size": 16},
    ],
    ids=str,
)
def test_what_is_computed_cannot_be_changed(tmp_path, change):
    make_detector().save_pretrained(tmp_path / "detector")
    edit_config(tmp_path / "detector", **change)
    with pytest.raises(UserError, match=r"config\.json: changed since the detector was saved"):
        Detector.from_pretrained(tmp_path / "detector")


def test_names_threshold_and_scale_may_be_changed(tmp_path):
    make_detector().save_pretrained(tmp_path / "detector")
    edit_config(
        tmp_path / "detector", name="other", classes=["x", "y"], scale="12bit", threshold=1.5
    )
    assert Detector.from_pretrained(tmp_path / "detector").threshold == 1.5

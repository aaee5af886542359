"""Which detectors a detector is compared with, and why some are left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from weight_files import build

from atd.detectors.knn import NearestNeighbours
from atd.evaluation.baselines import build_baselines

NO_IMAGES = SimpleNamespace(id_train=None, outliers=None)


def compared(backbone, *kinds):
    judged = NearestNeighbours(backbone, image_size=32, classes=list("abcde"))
    return build_baselines(kinds, judged, backbone, NO_IMAGES, seed=0)


@pytest.mark.parametrize("architecture", ["preact_resnet18", "import:nets:small"])
def test_zero_logits_are_nothing_to_compare_with(architecture):
    backbone = build(architecture)
    built, left_out = compared(backbone, "msp", "energy")
    assert list(built) == ["msp", "energy"]
    assert not left_out
    with torch.no_grad():
        for parameter in backbone.get_submodule(backbone.head_name).parameters():
            parameter.zero_()
    built, left_out = compared(backbone, "msp", "energy", "knn")
    assert not built
    reason = "the class logits of this backbone are all zero"
    assert left_out[:2] == [f"baseline msp: {reason}", f"baseline energy: {reason}"]
    assert left_out[2].startswith("baseline knn: it is fitted on ID training images")

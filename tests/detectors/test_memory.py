"""ResNet-50 at 224 px: gradients inside, of a batch of eight, within what each kind promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.kinds import kind_class

config = BackboneConfig(architecture="torchvision:resnet50")
backbone = build_backbone(config, channels=3, classes=10, image_size=224)
kind = kind_class(sys.argv[1])
options = kind.Options(head="sum") if sys.argv[1] == "confounding_gradients" else None
detector = kind(backbone.eval().requires_grad_(False), options, image_size=224).eval()
scores = detector.score(torch.rand(8, 3, 224, 224))
assert scores.isfinite().all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaia_z", "gaia_a", "confounding_gradients"])
def test_a_resnet50_fits_in_three_gigabytes(kind):
    done = subprocess.run(
        [sys.executable, "-c", CODE, kind], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / 2**20 < 3  # KiB on Linux

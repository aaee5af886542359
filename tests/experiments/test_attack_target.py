"""What table 4 is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from toys import TIER, Brightness, ToyImages, ToySplits, grey

from atd.evaluation.settings import Settings
from atd.experiments.attack_target import _measured


@dataclass(frozen=True)
class Labelled(ToyImages):
    """Images of one class."""

    @property
    def labels(self):
        return torch.zeros(len(self), dtype=torch.long)


def test_classifier_and_detector_run_without_tf32(monkeypatch):
    seen = set()

    class Network(nn.Module):
        def logits(self, images):
            seen.add(("classifier", torch.backends.cudnn.allow_tf32))
            brightness = images.flatten(1).mean(1)
            return torch.stack([brightness, -brightness], 1)

    class Probe(Brightness):
        backbone: Any

        def __init__(self):
            super().__init__()
            self.backbone = Network()

        def forward(self, images):
            seen.add(("detector", torch.backends.cudnn.allow_tf32))
            return super().forward(images)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    inside = Labelled("inside", grey("inside", 0, 100, 5).pixels)
    sets = ToySplits(inside, inside, {"far": grey("far", 150, 250, 5)}, {"far": "far"})
    found = _measured(Probe(), sets, Settings(tier=TIER, epsilon=8 / 255))["found"]
    assert seen == {("classifier", False), ("detector", False)}
    assert torch.backends.cudnn.allow_tf32
    assert found["clean"] == {"accuracy": 1.0, "auroc": 1.0}

"""How fast kinds score, timed by a clock of the test's."""

from __future__ import annotations

import json
import time

import pytest
import torch
from toys import Brightness

from atd.experiments.setting import Setting
from atd.experiments.speeds import measure_speeds, speed


def test_speed_is_that_of_both_in_images_per_second(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Slow(Brightness):
        """Takes the longer, the more it has scored."""

        pace, scored = 0.5, 0

        def forward(self, images):
            self.scored += len(images)
            clock[0] += self.pace * len(images) * (1 + (self.scored > 24))
            return super().forward(images)

    class Slower(Slow):
        pace = 2.0

    images = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    found = speed(Slow(), Slower(), images, turns=2, seconds=5.0)
    assert (found.images_per_second, found.of_msp) == (2.0, 0.5)


@pytest.mark.slow
def test_every_kind_asked_for_is_timed_or_says_why_not(tmp_path):
    overrides = ("data.ood_test=bundled:lowercase", "data.ood_limit=4", "run.device=cpu")
    setting = Setting("configs/digits.yaml", "smoke", overrides)
    kinds = ["msp", "gaia_z", "atd", "outlier_class"]
    measure_speeds(setting, kinds, output=tmp_path / "speed.md")
    found = json.loads((tmp_path / "speed.json").read_text())
    assert list(found["speeds"]) == ["msp", "gaia_z", "atd"]
    assert all(item["images_per_second"] > 0 for item in found["speeds"].values())
    assert "pretrain.objective=atom" in found["refused"]["outlier_class"]
    assert "| `gaia_z` | 2 | surrogate | " in (tmp_path / "speed.md").read_text()

"""How a detector is judged: its threshold, the ball, the arithmetic, attacks on features."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from toys import TIER, Brightness

from atd.attacks.suite import member
from atd.detectors.atd import ATD
from atd.evaluation.judgement import _with_draws
from atd.evaluation.protocol import evaluate
from atd.evaluation.settings import Settings
from atd.evaluation.subset import Sides
from atd.evaluation.tiers import Tier
from atd.metrics import auroc


def test_the_detectors_own_threshold_is_what_is_judged(splits, settings) -> None:
    detector = Brightness()
    detector.config = dataclasses.replace(detector.config, threshold=100.0)  # accepts everything
    block = evaluate(detector, splits, settings, name="toy").results.to_json()["threshold"]
    assert (block["value"], block["tpr_clean"], block["fpr_clean"]) == (100.0, 1.0, 1.0)
    assert block["note"] == "is the detector's own"
    detector.set_threshold(-100.0, "rejects everything")
    block = evaluate(detector, splits, settings, name="toy").results.to_json()["threshold"]
    assert (block["note"], block["tpr_clean"]) == ("rejects everything", 0.0)


def test_in_l2_the_whole_box_is_further_away_than_one(splits) -> None:
    settings = Settings(tier=TIER, epsilon=0.5, norm="l2", batch_size=16, progress=False)
    results = evaluate(Brightness(), splits, settings, name="toy").results.to_json()
    assert results["checks"]["unbounded_attack_wins"]["passed"]
    # Brightness moves by radius / sqrt(192): what four times the radius reaches is known.
    inside, outside = (
        sets.pixels.float().flatten(1).mean(1) / 255
        for sets in (splits.id_test, splits.ood_test["bright"])
    )
    reached = 2 * 2.0 / 192**0.5
    expected = auroc((inside + reached).numpy(), outside.numpy())
    curve = {point["epsilon"]: point["both"] for point in results["curves"]["epsilon"]}
    assert curve[2.0] == pytest.approx(expected, abs=0.02)
    assert curve[2.0] < curve[1.0] - 0.05 or curve[1.0] == 0


def test_nothing_of_a_judgement_runs_in_coarse_arithmetic(splits, settings, monkeypatch) -> None:
    seen = set()

    class Watching(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return super().forward(images)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    evaluate(Watching(), splits, settings, name="toy")
    assert seen == {(False, False)}
    assert torch.backends.cudnn.allow_tf32


def test_processes_agree_on_whether_a_detector_is_randomised(splits, settings, monkeypatch) -> None:
    monkeypatch.setattr("accelerate.utils.gather_object", lambda found: [*found, True])
    two = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    sides = Sides.of(splits.id_test, [splits.ood_test["bright"]], 8)
    found = _with_draws(Brightness(), sides, dataclasses.replace(settings, accelerator=two))
    assert found.draws > 1


def test_the_strong_tier_judges_a_discriminator_of_pixels(splits) -> None:
    tier = Tier("strong", (member("features", 2), member("square", 2)))
    settings = Settings(tier=tier, epsilon=8 / 255, batch_size=16, progress=False)
    torch.manual_seed(0)
    detector = ATD(None, image_size=8).eval()
    images = detector.features(torch.rand(2, 3, 8, 8))
    assert images.shape == (2, 3, 8, 8)  # no vector: what the attack takes is made of it
    found = evaluate(detector, splits, settings, name="pixels")
    assert found.results.attack.members == ("features-2x1", "square-2x1")

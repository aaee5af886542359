"""The outlier class: what is read off a network with one logit more than there are classes."""

from __future__ import annotations

import pytest
import torch
from making import line_of

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.outlier_class import OutlierClass, outlier_log_odds
from atd.errors import UserError


def test_it_ranks_as_the_probability_does_and_never_saturates():
    torch.manual_seed(0)
    logits = 4 * torch.randn(50, 6, dtype=torch.float64)
    scores, likely = outlier_log_odds(logits), logits.softmax(1)[:, -1]
    torch.testing.assert_close(scores, (likely / (1 - likely)).log())
    assert scores.argsort().tolist() == likely.argsort().tolist()
    sure = torch.tensor([[0.0, 0.0, 100.0], [0.0, 0.0, 200.0]])
    assert sure.softmax(1)[:, -1].unique().numel() == 1
    first, second = outlier_log_odds(sure)
    assert second > first


def test_any_backbone_with_a_logit_more_will_do(tmp_path):
    config = BackboneConfig(width=4, outlier_class=True, features="last")
    torch.manual_seed(0)
    backbone = build_backbone(config, channels=1, classes=3, image_size=8)
    assert backbone.classes == 4
    detector = OutlierClass(backbone, classes=["a", "b", "c"], image_size=8, channels=1).eval()
    detector.save_pretrained(tmp_path / "detector")
    images = torch.rand(5, 1, 8, 8)
    loaded = OutlierClass.from_pretrained(tmp_path / "detector")
    assert torch.equal(loaded.score(images), detector.score(images))
    odds = outlier_log_odds(backbone.eval()(images)).detach()
    torch.testing.assert_close(loaded.score(images), odds)


def test_a_backbone_without_one_is_refused():
    backbone = build_backbone(BackboneConfig(width=4), channels=1, classes=3, image_size=8)
    with pytest.raises(UserError) as error:
        OutlierClass(backbone, classes=["a", "b", "c"], image_size=8, channels=1)
    assert "pretrain.objective=atom" in line_of(error)

"""A config at a scale."""

from __future__ import annotations

import pytest

from atd.experiments.setting import SCALES, Setting


def test_small_is_the_config_as_it_is_but_for_the_evaluation(tmp_path):
    config = Setting(config="configs/digits.yaml", scale="small").resolved("msp", 3, tmp_path)
    assert (config.pretrain.epochs, config.backbone.width, config.run.seed) == (12, 16, 3)
    assert (config.evaluate.tier, config.evaluate.limit) == ("paper", 60)
    assert config.evaluate.baselines == []


@pytest.mark.parametrize("scale", SCALES)
def test_options_of_kinds_exist_and_overrides_win(scale, tmp_path):
    for kind in SCALES[scale].of_kind or ("msp",):
        setting = Setting(
            config="configs/digits.yaml", scale=scale, overrides=("evaluate.limit=7",)
        )
        config = setting.resolved(kind, 0, tmp_path)
        assert config.detector_kind == kind
        assert config.evaluate.limit == 7


def test_other_overrides_give_another_name():
    names = {Setting("configs/digits.yaml", "small", overrides).name for overrides in _OVERRIDES}
    assert len(names) == len(_OVERRIDES)
    assert Setting("configs/digits.yaml", "small").name == "digits-small"


_OVERRIDES = [(), ("atd.epochs=1",), ("atd.epochs=1", "atd.steps=1"), ("atd.epochs=1atd.steps=1",)]

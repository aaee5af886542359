"""Kinds and their options by name."""

from __future__ import annotations

import pytest
from making import line_of

from atd.config import load, to_yaml
from atd.detectors.kinds import resolved
from atd.errors import UserError


def read(*overrides):
    return resolved(load(None, overrides))


def test_options_of_the_kind_are_read_and_the_others_filled_in():
    assert read().detector == {"kind": "atd"}
    found = read("detector.kind=knn", "detector.k=7").detector
    assert found == {"kind": "knn", "k": 7, "bank": 50_000}


def test_a_resolved_config_is_read_back_equal(tmp_path):
    config = read("detector.kind=odin", "detector.perturbation=1/255")
    assert config.detector["perturbation"] == pytest.approx(1 / 255)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert resolved(load(file)) == config
    assert resolved(config) == config


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["detector.kind=enrgy"], "detector.kind=enrgy: unknown; the nearest is energy"),
        (["detector.kind="], "detector.kind=: unknown"),
        (["detector.kind=energy", "detector.temprature=2"], "did you mean detector.temperature?"),
        (["detector.kind=energy", "detector.k=2"], "it has temperature; k is one of kind knn"),
        (["detector.kind=msp", "detector.zzz=2"], "kind msp has no such option; it has none"),
        (["detector.k=2"], "detector.k: kind atd has its options under atd"),
        (["detector.knd=energy"], "detector.knd: unknown key; did you mean detector.kind?"),
        (["detector.kind=knn", "detector.k=x"], "detector.k=x: it must be a whole number"),
        (["detector.kind=knn", "detector.k=0"], "detector.k=0 is out of range"),
        (["detector.kind=msp", "atd.features=pixels"], "atd.features=pixels: kind msp reads"),
        (["evaluate.baselines=msp,nap"], "evaluate.baselines=nap: unknown"),
        (["detector=energy"], "write for example detector.kind="),
        (["detectr.kind=msp"], "did you mean detector.kind?"),
    ],
)
def test_mistakes_are_one_line(overrides, words):
    with pytest.raises(UserError) as error:
        read(*overrides)
    assert words in line_of(error)

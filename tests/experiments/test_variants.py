"""Names of rows."""

from __future__ import annotations

import pytest

from atd.detectors.kinds import KINDS
from atd.errors import UserError
from atd.experiments.bench import Bench
from atd.experiments.setting import Setting
from atd.experiments.variants import DEFAULTS, TRAININGS, VARIANTS, variant


@pytest.mark.parametrize("what", ["detectors", "objectives"])
def test_every_row_of_a_table_is_another_one_and_its_options_exist(what, tmp_path):
    bench = Bench(Setting("configs/digits.yaml", "smoke"), tmp_path)
    seen = set()
    for name in DEFAULTS[what]:
        config = bench.config(name, 0)
        assert config.detector_kind == name.partition("@")[0].partition(":")[0]
        seen.add(repr((config.detector, config.atd, config.pretrain, config.backbone)))
    assert len(seen) == len(DEFAULTS[what])


def test_the_options_of_a_row_win_over_those_of_the_scale_and_of_the_user(tmp_path):
    setting = Setting("configs/digits.yaml", "small", ("pretrain.objective=hat",))
    config = Bench(setting, tmp_path).config("daain:euclidean@oe", 0)
    assert config.detector["head"] == "euclidean"
    assert (config.detector["epochs"], config.pretrain.objective) == (30, "oe")


def test_every_kind_and_every_variant_is_a_default_row():
    assert set(DEFAULTS["detectors"]) == {*KINDS, *VARIANTS}
    assert {name.partition("@")[2] for name in DEFAULTS["objectives"]} == set(TRAININGS)


def test_the_three_protocols_say_what_they_were_fitted_to():
    fitted_to = {name: variant(name) for name in DEFAULTS["detectors"] if "confounding" in name}
    assert [row.fitted_to for row in fitted_to.values()] == [
        "outliers",
        "other test sets",
        "itself",
    ]
    assert "sees the anomaly" in fitted_to["confounding_gradients:anomaly"].note


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mps", "mps: unknown; the nearest is msp"),
        ("gaia_z:shares", "the nearest is gaia_z:share"),
        ("msp@aeo", "the nearest is aoe"),
        ("msp@", "--kinds=msp@: unknown"),
    ],
)
def test_a_name_that_is_none_is_told_the_nearest(name, words):
    with pytest.raises(UserError) as caught:
        variant(name)
    assert words in str(caught.value)

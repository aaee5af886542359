"""The table of detectors: made at smoke scale, gone on with, and refused where it must be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atd.errors import UserError
from atd.experiments.bench import Bench
from atd.experiments.detectors import measure_detectors
from atd.experiments.setting import Setting

FEW = ("data.ood_test=bundled:lowercase", "data.ood_limit=4", "run.device=cpu")
DIGITS = Setting(config="configs/digits.yaml", scale="smoke", overrides=FEW)


@pytest.fixture
def made(monkeypatch):
    """Rows without a measurement; gives the kinds and seeds that were asked for."""
    asked = []

    def row(self, name, config):
        asked.append((name, config.run.seed))
        told = {"config": self.setting.config, "scale": self.setting.scale, "variant": name}
        told["kind"] = config.detector_kind
        told |= {"overrides": list(self.setting.overrides), "options": [], "backbone": "none"}
        return {**told, "mean": dict.fromkeys(("clean", "in", "out", "both"), _METRICS)}

    monkeypatch.setattr(Bench, "row", row)
    return asked


_METRICS = dict.fromkeys(
    ("auroc", "fpr95_id", "fpr95_ood", "aupr_in", "aupr_out", "detection_error"), 0.5
)


def test_a_second_config_adds_a_table_and_the_same_command_goes_on(made, tmp_path):
    page, work = tmp_path / "page.md", tmp_path / "work"
    measure_detectors(DIGITS, ["msp", "knn"], [0], output=page, work=work)
    measure_detectors(DIGITS, ["knn", "energy"], [0, 1], output=page, work=work)
    assert made == [("msp", 0), ("knn", 0), ("energy", 0), ("knn", 1), ("energy", 1)]
    other = Setting(config="configs/cifar10_small.yaml", scale="small")
    measure_detectors(other, ["msp"], [0], output=page, work=work)
    text = page.read_text()
    assert "## configs/digits.yaml, scale smoke" in text
    assert "## configs/cifar10_small.yaml, scale small" in text
    assert text.count("| `msp` | 1 | 50.0 |") == 2


def test_rows_of_one_backbone_stay_together_and_quick_ones_come_first(made, tmp_path):
    rows = ["msp@atom", "splitting_integrating", "gaia_z:share", "knn@oe", "knn"]
    measure_detectors(DIGITS, rows, [0], output=tmp_path / "page.md", work=tmp_path)
    quick = ["knn", "gaia_z:share", "splitting_integrating"]
    assert made == [(name, 0) for name in (*quick, "knn@oe", "msp@atom")]


def test_other_overrides_make_a_table_of_their_own(made, tmp_path):
    page = tmp_path / "page.md"
    for setting in (DIGITS, Setting("configs/digits.yaml", "smoke"), DIGITS):
        measure_detectors(setting, ["msp"], [0], output=page, work=tmp_path)
    assert made == [("msp", 0)] * 2
    assert page.read_text().count("## configs/digits.yaml, scale smoke") == 2
    assert "scale smoke, `data.ood_test=bundled:lowercase`" in page.read_text()


def test_configs_of_one_name_are_not_mixed(made, tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "digits.yaml"
    other.write_text((Path(__file__).parents[2] / "configs" / "digits.yaml").read_text())
    measure_detectors(DIGITS, ["msp"], [0], output=page, work=tmp_path)
    before = page.with_suffix(".json").read_text()
    theirs = Setting(str(other), "smoke", FEW)
    with pytest.raises(UserError, match="are of configs/digits.yaml; choose another") as caught:
        measure_detectors(theirs, ["knn"], [0], output=page, work=tmp_path)
    assert "\n" not in str(caught.value)
    assert page.with_suffix(".json").read_text() == before


@pytest.mark.slow
def test_three_kinds_at_smoke_scale(tmp_path, monkeypatch):
    page = tmp_path / "detectors.md"
    kinds = ["atd", "daain", "msp"]
    measure_detectors(DIGITS, kinds, [0], output=page, work=tmp_path / "work")
    runs = json.loads(page.with_suffix(".json").read_text())
    assert list(runs) == [f"{DIGITS.name}/{kind}/0" for kind in kinds]
    for run in runs.values():
        # A detector of so few images may well be the wrong way round.
        assert "refused" in run or run["attack"]["tier"] == "smoke"
    found = runs[f"{DIGITS.name}/msp/0"]
    for condition, (low, high) in found["intervals"].items():
        assert low <= found["mean"][condition]["auroc"] <= high
    assert runs[f"{DIGITS.name}/daain/0"]["options"][0] == "detector.points=32"
    text = page.read_text()
    assert all(f"\n| `{kind}` | " in text for kind in kinds)
    assert "PGD-10 x 1" in text

    def refuse(self, name, config, ground):
        raise UserError("it cannot be made")

    monkeypatch.setattr(Bench, "detector", refuse)
    measure_detectors(DIGITS, [*kinds, "knn"], [0], output=page, work=tmp_path / "work")
    again = json.loads(page.with_suffix(".json").read_text())
    assert again[f"{DIGITS.name}/msp/0"] == runs[f"{DIGITS.name}/msp/0"]
    assert again[f"{DIGITS.name}/knn/0"]["refused"] == "it cannot be made"
    assert "refused: it cannot be made" in page.read_text()

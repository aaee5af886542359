"""The paper's figures 1 and 2 and the certificate: at smoke scale, and what pages say."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from atd.commands import reproduce
from atd.evaluation.results import Provenance
from atd.reporting.radius_page import RadiusRow, radius_page
from atd.reporting.shift_page import ShiftRow, shift_page

FACTS = Provenance("c0ffee", {}, "CPU", 0, None, 1.0, "2026-11-26T00:00:00+00:00")
SETTING = {"config": "configs/digits.yaml", "scale": "small", "overrides": ()}


def test_the_page_of_radii_is_the_mean_over_seeds_and_names_what_is_missing():
    def row(both):
        points = ({"epsilon": 0.0, "both": 0.9}, {"epsilon": 8 / 255, "both": both})
        return RadiusRow(
            **SETTING, name="msp@aloe", provenance=FACTS, attack="PGD", images=9, points=points
        )

    refused = RadiusRow(**SETTING, name="daain", provenance=FACTS, refused="it is absent")
    page = radius_page([row(0.4), row(0.5), refused], "figure1.png")
    assert "| `msp@aloe` | 2 | 90.0 | 45.0 |" in page
    assert "| detector | seeds | 0/255 | 8/255 |" in page
    assert "`daain`: it is absent." in page
    assert "differs from the paper" in page


def test_the_page_of_shifts_tells_medians():
    names = ("ID, clean", "ID, attacked", "OOD, clean", "OOD, attacked")
    row = ShiftRow(
        **SETTING, name="atd", provenance=FACTS, attack="PGD", images=9, low=0, high=1,
        shares=dict.fromkeys(names, (0.5, 0.5)), medians=dict(zip(names, range(4), strict=True)),
        auroc={"clean": 0.9, "in": 0.6, "out": 0.5, "both": 0.1},
    )  # fmt: skip
    page = shift_page([row], "figure2.png")
    assert "| `atd` | 0 | 90.0 | 60.0 | 50.0 | 10.0 | 0 to 1 | 2 to 3 |" in page


@pytest.mark.slow
def test_they_and_the_certificate_at_smoke_scale(tmp_path):
    few = ["data.ood_test=bundled:lowercase", "run.device=cpu", "--kinds", "msp"]
    for what in ("figure1", "figure2", "certificate"):
        reproduce.main([what, "--scale", "smoke", "--work", str(tmp_path), *few])
        with Image.open(tmp_path / f"{what}.png") as picture:
            assert picture.size[0] > picture.size[1] > 250
        assert f"({what}.png)" in (tmp_path / f"{what}.md").read_text()
    (curve,) = json.loads((tmp_path / "figure1.json").read_text()).values()
    both = [point["both"] for point in curve["points"]]
    assert both == sorted(both, reverse=True)
    (shift,) = json.loads((tmp_path / "figure2.json").read_text()).values()
    assert all(sum(shares) == pytest.approx(1, abs=0.01) for shares in shift["shares"].values())
    assert shift["medians"]["ID, attacked"] > shift["medians"]["ID, clean"]
    assert shift["medians"]["OOD, attacked"] < shift["medians"]["OOD, clean"]
    (certified,) = json.loads((tmp_path / "certificate.json").read_text()).values()
    assert certified["certificate"]["draws"] == 60
    assert len(certified["certificate"]["mean"]) == 7

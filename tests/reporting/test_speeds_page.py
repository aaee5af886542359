"""The page of speeds."""

from __future__ import annotations

from atd.evaluation.results import Provenance
from atd.reporting.speeds_page import Speed, Speeds, speeds_page

FACTS = Provenance("abc", {"torch": "2"}, "CPU (2 cores)", 0, "d" * 64, 9.0, "2026-01-02T00:00:00")


def test_every_kind_stands_beside_msp():
    found = Speeds(
        config="configs/digits.yaml",
        overrides=("run.device=cpu",),
        backbone="preact_resnet18, width 16",
        images=256,
        size=16,
        threads=2,
        speeds={"msp": Speed(5000.0, 5100.0), "gaia_a": Speed(1000.0, 5000.0)},
        refused={"outlier_class": "no logit | for outliers"},
        provenance=FACTS,
    )
    page = speeds_page(found)
    rows = [line for line in page.splitlines() if line.startswith("| `")][1:]
    assert rows == [
        "| `gaia_a` | 3 | surrogate | 1,000 | 5,000 | 5.0 |",
        "| `msp` | 1 | exact | 5,000 | 5,100 | 1.0 |",
        "| `outlier_class` | | | refused: no logit / for outliers | | |",
    ]
    assert "256 images of 16 px at once,\n2 threads" in page
    assert (
        "    python -m atd.reproduce speeds --config configs/digits.yaml run.device=cpu\n" in page
    )

"""The page of findings, at smoke scale, and what it says of rows that are given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atd.commands import reproduce
from atd.experiments.findings import RECIPES, _saturation


def test_saturation_counts_sure_id_images_alone_as_flat():
    """An outlier of which the discriminator is sure keeps a gradient, however small."""
    logits = {"id": np.array([-20.0, -10.0, 0.0, 20.0]), "ood": np.array([20.0, 10.0, 5.0, 0.0])}
    found = _saturation(logits)
    # In bfloat16 -10 is flat as well; a logit of 20 on ID is an ID image already taken for OOD.
    assert found["flat_loss"]["float32"] == 1 / 8
    assert found["flat_loss"]["bfloat16"] == 2 / 8
    assert found["largest_logit"] == 20.0
    for shares in found["histogram"].values():
        assert sum(shares) == pytest.approx(1)


@pytest.mark.slow
def test_findings_run_at_smoke_scale(tmp_path):
    words = ["findings", "--scale", "smoke", "--work", str(tmp_path)]
    reproduce.main([*words, "data.ood_test=bundled:lowercase"])
    text = (tmp_path / "findings.md").read_text()
    for name in RECIPES:
        assert text.count(f"\n| {name} | ") == 2
        assert f"* **{name}**: with both sides attacked " in text
    for picture in ("findings_auroc.png", "findings_logits.png"):
        assert f"]({picture})" in text
        assert (tmp_path / picture).stat().st_size > 10_000
    for run in json.loads((tmp_path / "findings.json").read_text()).values():
        assert set(run["attacks"]) == {"released", "paper", "strong"}
        # The strong tier contains the others' attack, and takes the worst of all.
        assert run["attacks"]["strong"]["both"] <= run["attacks"]["paper"]["both"] + 1e-9

"""The paper's example in two dimensions."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from atd.commands import reproduce
from atd.experiments.toy import SETTINGS, judged, samples, trained


def test_samples_are_fixed_and_apart():
    found = samples(3)
    assert all(torch.equal(found[name], again) for name, again in samples(3).items())
    assert found["ID"].norm(dim=1).max() <= 2
    assert found["OOD"][:, 0].min() >= 3.2
    assert found["generated"].abs().max() > 7


def test_attacking_id_samples_widens_what_is_taken_for_id():
    """The paper's observation (c): a margin around the closed set, where nothing is open."""
    left = torch.tensor([[-2.6, 0.0]])
    plain, defended = (trained(SETTINGS[panel], 60, 0) for panel in "bc")
    with torch.no_grad():
        assert defended(left) < 0 < plain(left)
    assert judged(defended, 0)["clean"] > 0.98


@pytest.mark.parametrize("panel", ["b", "f"])
def test_training_is_repeatable_and_leaves_other_random_numbers_alone(panel):
    torch.manual_seed(1)
    first = trained(SETTINGS[panel], 2, 5)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    again = trained(SETTINGS[panel], 2, 5)
    same = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in same)


def test_figure4_at_smoke_scale(tmp_path, capsys):
    reproduce.main(["figure4", "--scale", "smoke", "--work", str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(tmp_path / "figure4.md")
    found = json.loads((tmp_path / "figure4.json").read_text())
    assert list(found["settings"]) == ["b", "c", "d", "e", "f"]
    assert found["provenance"]["seed"] == 0
    page = (tmp_path / "figure4.md").read_text()
    assert "| f | ID and OOD | " in page
    assert "differs from the paper" in page
    with Image.open(tmp_path / "figure4.png") as picture:
        assert min(picture.size) > 700

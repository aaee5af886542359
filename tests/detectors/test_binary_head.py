"""The perceptron of two layers and its 40/40/20 protocol."""

from __future__ import annotations

import pytest
import torch
from making import line_of

from atd.detectors import binary_head
from atd.detectors.binary_head import fit_binary_head
from atd.errors import UserError
from atd.metrics import auroc

OF = {"hidden": 8, "epochs": 30, "learning_rate": 1e-2, "seed": 0}


def two_sides(count=100, apart=2.0):
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1e-3, 1.0, 1e3])
    inside, outside = torch.randn(2, count, 3, generator=generator).double()
    return inside * scales, (outside + apart) * scales


def test_it_tells_them_apart_whatever_the_units():
    inside, outside = two_sides()
    found = fit_binary_head(inside, outside, **OF)
    scores = [
        found.head(((side - found.centre) / found.spread).float()).detach().numpy()
        for side in two_sides()
    ]
    assert auroc(*scores) > 0.97
    assert found.held_out[0] > 0.95
    assert 0.8 < found.held_out[1] <= 1


def test_the_last_fifth_is_not_seen(monkeypatch):
    """Neither standardisation nor training nor the choice of the epoch depends on it."""
    inside, outside = two_sides()
    before = fit_binary_head(inside, outside, **OF)
    order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(0))
    changed = inside.clone()
    changed[order[80:]] = 1e6
    after = fit_binary_head(changed, outside, **OF)
    assert torch.equal(before.centre, after.centre)
    assert all(map(torch.equal, before.head.parameters(), after.head.parameters()))
    assert not torch.equal(before.held_out, after.held_out)
    changed[order[79]] = 1e6  # this one chooses the epoch
    chosen = fit_binary_head(changed, outside, **OF)
    assert torch.equal(before.centre, chosen.centre)
    changed[order[0]] = 1e6
    assert not torch.equal(before.centre, fit_binary_head(changed, outside, **OF).centre)


def test_sides_weigh_the_same_however_many_they_are():
    inside, outside = two_sides(2000, apart=0.0)
    found = fit_binary_head(inside, outside[:100], **OF)
    scores = found.head(((inside - found.centre) / found.spread).float())
    assert abs(float(scores.mean())) < 0.7  # unweighted, it would be log(1/20) = -3


def test_the_best_epoch_is_kept_and_waiting_ends(monkeypatch):
    inside, outside = two_sides(20, apart=0.5)
    monkeypatch.setattr(binary_head, "_PATIENCE", 3)
    few = fit_binary_head(inside, outside, **{**OF, "epochs": 60})
    many = fit_binary_head(inside, outside, **{**OF, "epochs": 10_000})
    assert all(map(torch.equal, few.head.parameters(), many.head.parameters()))


def test_constant_elements_are_harmless():
    inside, outside = two_sides()
    inside[:, 0] = outside[:, 0] = 7.0
    found = fit_binary_head(inside, outside, **OF)
    assert found.spread[0] == 1
    assert found.held_out[0] > 0.9


@pytest.mark.parametrize(("kept", "words"), [((9, 50), "ID images"), ((50, 3), "outliers")])
def test_too_few_are_refused(kept, words):
    inside, outside = two_sides()
    with pytest.raises(UserError, match=words) as error:
        fit_binary_head(inside[: kept[0]], outside[: kept[1]], **OF)
    line_of(error)

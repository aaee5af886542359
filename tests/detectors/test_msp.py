"""Scores of class logits against their formulas and pytorch-ood's."""

from __future__ import annotations

import pytest
import torch
from flat import Flat, flat, sample
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from making import line_of

from atd.detectors.energy import Energy
from atd.detectors.kinds import KINDS, kind_class
from atd.detectors.max_logit import MaximumLogit
from atd.detectors.msp import MaximumSoftmax, doubt
from atd.errors import UserError

logits = arrays(
    "float64", st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-9, 9)
)


@given(logits)
def test_is_the_log_odds_against_the_likeliest_class(values):
    values = torch.from_numpy(values)
    probability = values.softmax(1).amax(1)
    expected = torch.log1p(-probability) - probability.log()
    torch.testing.assert_close(doubt(values), expected)


def test_never_saturates_where_the_probability_does():
    values = torch.tensor([[60.0, 0.0, 0.0], [90.0, 0.0, 0.0]], requires_grad=True)
    scores = doubt(values)
    assert values.softmax(1)[:, 0].tolist() == [1.0, 1.0]
    assert scores[0] > scores[1]
    (gradient,) = torch.autograd.grad(scores.sum(), values)
    assert (gradient[:, 0] == -1).all()


def test_the_same_as_pytorch_ood():
    from pytorch_ood.detector import EnergyBased, MaxLogit, MaxSoftmax

    backbone, (images, _) = Flat(), sample(30, apart=0.3)
    probability = torch.sigmoid(flat(MaximumSoftmax).logits(images)) - 1
    torch.testing.assert_close(probability, MaxSoftmax(backbone)(images))
    torch.testing.assert_close(flat(MaximumLogit).logits(images), MaxLogit(backbone)(images))
    for temperature in (1.0, 2.5):
        theirs = EnergyBased(backbone, t=temperature)(images)
        torch.testing.assert_close(flat(Energy, temperature=temperature).logits(images), theirs)


def test_one_class_is_refused_by_every_kind_that_reads_logits():
    for name in KINDS:
        kind = kind_class(name)
        if "logits" in kind.info.needs:
            with pytest.raises(UserError, match="at least two classes") as error:
                flat(kind, Flat(classes=1))
            assert f"detector.kind={name}" in line_of(error)

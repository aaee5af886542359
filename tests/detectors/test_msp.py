from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from atd.detectors.msp import MaximumSoftmax
from atd.errors import UserError

logits = arrays(
    "float64", st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-9, 9)
)


@given(logits)
def test_is_the_log_odds_against_the_likeliest_class(values) -> None:
    values = torch.from_numpy(values)
    probability = values.softmax(1).amax(1)
    expected = torch.log1p(-probability) - probability.log()
    torch.testing.assert_close(MaximumSoftmax(nn.Identity()).logits(values), expected)


def test_never_saturates_where_the_probability_does() -> None:
    values = torch.tensor([[60.0, 0.0, 0.0], [90.0, 0.0, 0.0]], requires_grad=True)
    scores = MaximumSoftmax(nn.Identity()).logits(values)
    assert values.softmax(1)[:, 0].tolist() == [1.0, 1.0]
    assert scores[0] > scores[1]
    (gradient,) = torch.autograd.grad(scores.sum(), values)
    assert (gradient[:, 0] == -1).all()


def test_one_class_is_refused() -> None:
    backbone = nn.Identity()
    backbone.classes = 1
    with pytest.raises(UserError, match="at least two classes"):
        MaximumSoftmax(backbone)

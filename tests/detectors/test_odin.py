"""ODIN against pytorch-ood's, whose own preprocessing it is."""

from __future__ import annotations

import pytest
import torch
from flat import Flat, flat, sample

from atd.config.ranges import OptionError
from atd.detectors.energy import Energy
from atd.detectors.msp import MaximumSoftmax
from atd.detectors.odin import ODIN


@pytest.mark.parametrize(("temperature", "perturbation"), [(1.0, 0.05), (10.0, 0.0014)])
def test_the_same_as_pytorch_ood(temperature, perturbation):
    from pytorch_ood.detector import ODIN as Reference

    backbone, (images, _) = Flat(), sample(30, apart=0.3)
    options = {"temperature": temperature, "perturbation": perturbation}
    ours = torch.sigmoid(flat(ODIN, **options).logits(images)) - 1
    theirs = Reference(backbone, eps=perturbation, temperature=temperature)(images)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_without_either_it_is_the_maximum_softmax_probability():
    images, _ = sample(30, apart=0.3)
    plain = flat(ODIN, temperature=1, perturbation=0).logits(images)
    torch.testing.assert_close(plain.detach(), flat(MaximumSoftmax).logits(images))


@pytest.mark.parametrize("kind", [Energy, ODIN])
def test_temperatures_at_which_scores_are_lost_are_refused(kind):
    images, _ = sample(200, apart=0.3)
    assert len(flat(kind, temperature=1000).logits(images).unique()) > 190
    with pytest.raises(OptionError, match=r"detector\.temperature=1001"):
        flat(kind, temperature=1001)

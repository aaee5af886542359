"""ODIN against pytorch-ood's, whose own preprocessing it is."""

from __future__ import annotations

import pytest
import torch
from flat import Flat, flat, sample

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

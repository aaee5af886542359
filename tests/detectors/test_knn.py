"""The k-th neighbour's distance against pytorch-ood's, and its bank."""

from __future__ import annotations

import pytest
import torch
from flat import data, flat, sample
from making import line_of

from atd.detectors.knn import NearestNeighbours
from atd.errors import UserError


@pytest.mark.parametrize("k", [1, 7])
def test_the_same_as_pytorch_ood(k):
    from pytorch_ood.detector import KNN

    train, labels = sample()
    test, _ = sample(40, seed=1, apart=2.0)
    ours = flat(NearestNeighbours, k=k).fit(data(train, labels), seed=0).logits(test).sqrt()
    theirs = KNN(None, k=k).fit_features(train.flatten(1), labels).predict_features(test.flatten(1))
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-5)


def test_an_image_of_the_bank_has_a_finite_gradient():
    train, labels = sample()
    detector = flat(NearestNeighbours, k=1).fit(data(train, labels), seed=0)
    images = train[:5].clone().requires_grad_(True)
    scores = detector.logits(images)
    assert scores.detach().max() < 1e-10
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    assert gradient.isfinite().all()


def test_the_bank_is_a_seeded_subset():
    train, labels = sample()
    fitted = [
        flat(NearestNeighbours, k=2, bank=20).fit(data(train, labels), seed=seed).bank
        for seed in (0, 0, 1)
    ]
    assert fitted[0].shape == (20, 9)
    assert torch.equal(fitted[0], fitted[1])
    assert not torch.equal(fitted[0], fitted[2])
    whole = flat(NearestNeighbours, k=2).fit(data(train, labels), seed=0).bank
    assert (torch.cdist(fitted[0], whole).amin(1) < 1e-3).all()


def test_fewer_images_than_k_are_refused():
    with pytest.raises(UserError, match=r"detector\.k=50: there are only 49") as error:
        flat(NearestNeighbours).fit(data(*sample(49)), seed=0)
    line_of(error)
    with pytest.raises(UserError, match="only 10 ID images"):
        flat(NearestNeighbours, k=11, bank=10).fit(data(*sample()), seed=0)

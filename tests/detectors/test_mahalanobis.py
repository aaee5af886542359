"""Both Mahalanobis distances against their equations, and the statistics that they stand on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flat import DIMENSION, Flat, data, flat, sample
from making import line_of

from atd.detectors.mahalanobis import Mahalanobis
from atd.detectors.relative_mahalanobis import RelativeMahalanobis
from atd.errors import UserError

BOTH = pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis])


def reference(train, labels, test, relative):
    """Eqs. 1-3 of the ATD paper, written out in float64."""
    z, y, x = train.flatten(1).double().numpy(), labels.numpy(), test.flatten(1).double().numpy()
    means = np.stack([z[y == k].mean(0) for k in np.unique(y)])
    precision = np.linalg.inv(np.cov((z - means[y]).T, bias=True))
    apart = x[:, None] - means[None]
    distances = np.einsum("nkd,de,nke->nk", apart, precision, apart)
    if relative:
        away = x - z.mean(0)
        background = np.linalg.inv(np.cov(z.T, bias=True))
        distances = distances - np.einsum("nd,de,ne->n", away, background, away)[:, None]
    return distances.min(1)


@BOTH
def test_equals_the_equations(kind):
    train, labels = sample()
    test = 3 * sample(40, seed=1)[0]
    scores = flat(kind).fit(data(train, labels), seed=0).logits(test)
    expected = reference(train, labels, test, kind is RelativeMahalanobis)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-3, atol=5e-3)


def test_equals_pytorch_ood_up_to_its_scale():
    from pytorch_ood.detector import Mahalanobis as Reference

    train, labels = sample()
    test, _ = sample(50, seed=1)
    ours = flat(Mahalanobis).fit(data(train, labels), seed=0).logits(test)
    theirs = (
        Reference(None).fit_features(train.flatten(1), labels).predict_features(test.flatten(1))
    )
    assert torch.corrcoef(torch.stack([ours, theirs.float()]))[0, 1] > 0.9999


@BOTH
def test_batches_do_not_matter(kind):
    train, labels = sample()
    whole = flat(kind).fit(data(train, labels, 200), seed=0)
    parts = flat(kind).fit(data(train, labels, 7), seed=0)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)


def test_unlabelled_images_are_one_class_where_that_means_something():
    train, labels = sample()
    none = torch.full_like(labels, -1)
    unlabelled = flat(Mahalanobis).fit(data(train, none), seed=0)
    one = flat(Mahalanobis).fit(data(train, torch.zeros_like(labels)), seed=0)
    torch.testing.assert_close(unlabelled.logits(train), one.logits(train))
    for given, words in ((none, "have none"), (labels * 0, "one class")):
        with pytest.raises(UserError, match=words) as error:
            flat(RelativeMahalanobis).fit(data(train, given), seed=0)
        line_of(error)


def test_class_without_images_is_ignored():
    train, labels = sample(classes=2)
    known = flat(Mahalanobis, Flat(2)).fit(data(train, labels), seed=0)
    padded = flat(Mahalanobis, Flat(5)).fit(data(train, labels * 3), seed=0)
    torch.testing.assert_close(padded.logits(train), known.logits(train))


@BOTH
def test_dead_unit_leaves_scores_finite(kind):
    train, labels = sample()
    train[:, 0, 0, 0] = 0.0
    scores = flat(kind).fit(data(train, labels), seed=0).logits(train)
    assert scores.isfinite().all()
    assert scores.max() < 100


def test_fewer_images_than_dimensions_are_shrunk_and_told(capsys):
    train, labels = sample(DIMENSION + 2)
    scores = flat(Mahalanobis).fit(data(train, labels), seed=0).logits(sample(50, seed=1)[0])
    assert "11 ID images for 9 dimensions" in capsys.readouterr().err
    # Without shrinkage the distances of fresh images are thousands of times too large.
    assert scores.median() < 10 * DIMENSION
    flat(Mahalanobis).fit(data(*sample(DIMENSION + 3)), seed=0)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x, y + 1), "label 3 .* 3 classes"),
        (lambda x, y: (x, torch.where(y == 0, -1, y)), "67 of 200 have none"),
        (lambda x, y: (x * 0 + 0.5, y), "same embedding"),
        (lambda x, y: (x[:1], y[:1]), "1 ID image"),
        (lambda x, y: (x / 0, y), "not finite"),
    ],
)
def test_faults_are_named(change, words):
    with pytest.raises(UserError, match=words) as error:
        flat(Mahalanobis).fit(data(*change(*sample())), seed=0)
    line_of(error)

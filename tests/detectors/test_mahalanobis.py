from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atd.detectors.mahalanobis import Mahalanobis
from atd.errors import UserError
from atd.evaluation.cache import fingerprint

SIZE = 6


class Flat(nn.Module):
    embedding_dim = SIZE

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def sample(count: int = 200, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.eye(SIZE) + 0.2 * torch.randn(SIZE, SIZE, generator=generator)
    labels = torch.arange(count) % classes
    values = torch.randn(count, SIZE, generator=generator) @ mixing
    return values.view(count, 1, 2, 3) + 4 * labels.view(-1, 1, 1, 1), labels


def reference(train: Tensor, labels: Tensor, test: Tensor, relative: bool) -> np.ndarray:
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


@pytest.mark.parametrize("relative", [False, True])
def test_equals_the_equations(relative: bool) -> None:
    train, labels = sample()
    test = 3 * torch.randn(40, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    fitted = Mahalanobis(Flat(), classes=3, relative=relative).fit([(train, labels)])
    expected = reference(train, labels, test, relative)
    np.testing.assert_allclose(fitted.logits(test).numpy(), expected, rtol=1e-4, atol=5e-3)


def test_equals_pytorch_ood_up_to_its_scale() -> None:
    from pytorch_ood.detector import Mahalanobis as Reference

    train, labels = sample()
    test, _ = sample(50)
    ours = Mahalanobis(Flat(), classes=3).fit([(train, labels)]).logits(test)
    theirs = (
        Reference(None).fit_features(train.flatten(1), labels).predict_features(test.flatten(1))
    )
    assert torch.corrcoef(torch.stack([ours, theirs.float()]))[0, 1] > 0.9999


def test_batches_do_not_matter() -> None:
    train, labels = sample()
    whole = Mahalanobis(Flat(), classes=3).fit([(train, labels)])
    parts = Mahalanobis(Flat(), classes=3).fit(zip(train.split(7), labels.split(7), strict=True))
    torch.testing.assert_close(parts.whitening, whole.whitening)
    torch.testing.assert_close(parts.means, whole.means)


def test_unlabelled_images_are_one_class() -> None:
    train, labels = sample()
    unlabelled = Mahalanobis(Flat(), classes=3).fit([(train, torch.full_like(labels, -1))])
    one = Mahalanobis(Flat(), classes=1).fit([(train, torch.zeros_like(labels))])
    torch.testing.assert_close(unlabelled.logits(train), one.logits(train))


def test_class_without_images_is_ignored() -> None:
    train, labels = sample(classes=2)
    known = Mahalanobis(Flat(), classes=2).fit([(train, labels)])
    padded = Mahalanobis(Flat(), classes=5).fit([(train, labels * 3)])
    torch.testing.assert_close(padded.logits(train), known.logits(train))


def test_dead_unit_leaves_scores_finite() -> None:
    train, labels = sample()
    train[:, 0, 0, 0] = 0.0
    fitted = Mahalanobis(Flat(), classes=3).fit([(train, labels)])
    scores = fitted.logits(train)
    assert scores.isfinite().all()
    assert scores.max() < 100


def test_faults_are_named() -> None:
    train, labels = sample()
    with pytest.raises(UserError, match="no ID training images"):
        Mahalanobis(Flat(), classes=3).fit([])
    with pytest.raises(UserError, match="label 2 .* 2 classes"):
        Mahalanobis(Flat(), classes=2).fit([(train, labels)])


def test_fingerprint_tells_the_two_forms_apart() -> None:
    # The weights are the same; cached scores of one must not pass for the other's.
    fitted = [
        Mahalanobis(Flat(), classes=3, relative=kind).fit([sample()]) for kind in (True, False)
    ]
    assert fingerprint(fitted[0]) != fingerprint(fitted[1])
    again = Mahalanobis(Flat(), classes=3).fit([sample()])
    assert fingerprint(fitted[1]) == fingerprint(again)

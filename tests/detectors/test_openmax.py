"""OpenMax against pytorch-ood's, its Weibull fit against SciPy's, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from flat import Flat, data, flat, sample
from making import line_of

from atd.detectors.openmax import OpenMax, fit_tail
from atd.errors import UserError


def labelled(count=300, seed=0):
    """Images that the backbone classifies rightly, since it gives the labels; all classes."""
    images, _ = sample(count, seed=seed, apart=0.0)
    return images, Flat()(images).argmax(1)


@pytest.mark.parametrize(("tail", "alpha"), [(20, 10), (8, 2)])
def test_the_same_as_pytorch_ood(tail, alpha):
    from pytorch_ood.detector import OpenMax as Reference

    train, labels = labelled()
    test = torch.cat([labelled(40, seed=1)[0], 4 * labelled(40, seed=2)[0]])
    detector = flat(OpenMax, tail=tail, alpha=alpha).fit(data(train, labels), seed=0)
    reference = Reference(None, tailsize=tail, alpha=alpha).fit_logits(Flat()(train), labels)
    expected = reference.predict_logits(Flat()(test)).double()
    ours = torch.sigmoid(detector.logits(test).double())
    torch.testing.assert_close(ours, expected, rtol=0, atol=5e-3)
    assert expected.std() > 0.1


def test_the_tail_is_the_likeliest():
    from scipy.stats import weibull_min

    distances = torch.rand(80, generator=torch.Generator().manual_seed(0)).double() * 5
    least, shape, scale = fit_tail(distances, 30)
    largest = distances.sort().values[-30:]
    assert least == float(largest[0])
    moved = (largest - least + 10_000).numpy()

    def likelihood(shape, log_scale):
        return weibull_min.logpdf(
            moved, shape, scale=10_000 * float(torch.tensor(log_scale).exp())
        ).sum()

    best = likelihood(shape, scale)
    for factor in (0.98, 1.02):
        assert likelihood(shape * factor, scale) < best
        assert likelihood(shape, scale * factor) < best


def test_far_away_neither_score_nor_gradient_overflows():
    detector = flat(OpenMax, tail=5).fit(data(*labelled()), seed=0)
    images = (1e3 * labelled(20, seed=1)[0]).requires_grad_(True)
    scores = detector.logits(images)
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    assert scores.isfinite().all()
    assert gradient.isfinite().all()


def test_images_that_are_classified_wrongly_do_not_count():
    images, labels = labelled()
    wrong = labels.clone()
    wrong[::10] = (labels[::10] + 1) % 3
    some = torch.arange(300) % 10 > 0
    fitted = [
        flat(OpenMax).fit(data(*given), seed=0)
        for given in ((images, wrong), (images[some], labels[some]))
    ]
    torch.testing.assert_close(fitted[0].tails, fitted[1].tails)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: torch.where(y == 1, 0, y), r"class 1 has 0 ID image\(s\)"),
        (lambda y: y + 1, "label 3 in the ID images"),
        (lambda y: torch.full_like(y, -1), "300 of 300 have none"),
    ],
)
def test_faults_are_named(change, words):
    images, labels = labelled()
    with pytest.raises(UserError, match=words) as error:
        flat(OpenMax).fit(data(images, change(labels)), seed=0)
    line_of(error)


def test_equal_distances_make_a_step_and_no_fault():
    tail = fit_tail(torch.full((5,), 2.0).double(), 5)
    assert all(torch.tensor(tail).isfinite())

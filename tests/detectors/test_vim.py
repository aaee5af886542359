"""ViM against pytorch-ood's, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from flat import Flat, data, flat, sample
from making import line_of

from atd.detectors.vim import VirtualLogit
from atd.errors import UserError


class Bent(Flat):
    """Its logits are no linear function of the embedding."""

    def classify(self, embedding):
        return self.head(embedding.square())


@pytest.mark.parametrize("dimension", [0, 2, 8])
def test_the_same_as_pytorch_ood(dimension):
    from pytorch_ood.detector import ViM

    backbone, (train, labels), (test, _) = Flat(), sample(), sample(40, seed=1)
    detector = flat(VirtualLogit, backbone, dimension=dimension).fit(data(train, labels), seed=0)
    head = backbone.head
    reference = ViM(None, dimension or 4, head.weight, head.bias)
    reference.fit_features(train.flatten(1), labels)
    torch.testing.assert_close(
        detector.logits(test), reference.predict_features(test.flatten(1)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("size", "dimension"),
    [(9, 4), (512, 256), (513, 512), (768, 512), (1024, 512), (2047, 512), (2048, 1000)],
)
def test_the_usual_dimension_is_the_authors(size, dimension):
    backbone = Flat()
    backbone.embedding_dim = size
    assert flat(VirtualLogit, backbone).dimension == dimension


def test_what_does_not_fit_the_backbone_is_refused():
    with pytest.raises(UserError, match=r"detector\.dimension=9: .* 9 dimensions; .* most 8"):
        flat(VirtualLogit, dimension=9)
    with pytest.raises(UserError, match="flat are not linear") as error:
        flat(VirtualLogit, Bent()).fit(data(*sample()), seed=0)
    line_of(error)


def test_images_that_span_too_little_are_refused():
    with pytest.raises(UserError, match="8 ID images do not span the 9 dimensions"):
        flat(VirtualLogit).fit(data(*sample(8)), seed=0)
    images, labels = sample()
    images = images * 0 + torch.linspace(0, 1, 200).view(-1, 1, 1, 1)
    detector = flat(VirtualLogit, dimension=8)
    with torch.no_grad():
        detector.backbone.head.bias.zero_()  # the origin is zero, so all lie on one line
    with pytest.raises(UserError, match="covariance is singular") as error:
        detector.fit(data(images, labels), seed=0)
    line_of(error)

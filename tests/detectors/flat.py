"""A backbone whose embedding is the image itself: statistics of kinds can be checked by hand."""

from __future__ import annotations

import torch
from torch import nn

from atd.backbones.base import Backbone
from atd.detectors.fitting import FitData

SIDE = 3
DIMENSION = SIDE * SIDE


class Flat(Backbone):
    """Embeds a grey 3 x 3 image as nine numbers; its logits are linear in them."""

    title = "flat"

    def __init__(self, classes=3):
        super().__init__([DIMENSION], channels=1, classes=classes, features="last")
        generator = torch.Generator().manual_seed(7)
        self.head = nn.Linear(DIMENSION, classes)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(classes, DIMENSION, generator=generator))
            self.head.bias.copy_(torch.randn(classes, generator=generator))
        self.eval().requires_grad_(False)

    def embed(self, images):
        return images.flatten(1)

    def classify(self, embedding):
        return self.head(embedding)


def flat(kind, backbone=None, **options):
    """A detector of a kind (a class) on a flat backbone, not fitted."""
    of = {"image_size": SIDE, "channels": 1}
    return kind(backbone or Flat(), kind.Options(**options), **of).eval()


def sample(count=200, classes=3, seed=0, apart=4.0):
    """Images (N, 1, 3, 3) of classes that lie apart, correlated within, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(DIMENSION) + 0.2 * torch.randn(
        DIMENSION, DIMENSION, generator=torch.Generator().manual_seed(3)
    )
    labels = torch.arange(count) % classes
    values = torch.randn(count, DIMENSION, generator=generator) @ mixing
    return values.view(count, 1, SIDE, SIDE) + apart * labels.view(-1, 1, 1, 1), labels


def data(images, labels, size=50):
    return FitData(id=list(zip(images.split(size), labels.split(size), strict=True)))

"""A kind of one's own, as small as one can be: it is fitted, and its buffer's size with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.fitting import collect


@dataclass(frozen=True, kw_only=True)
class NearestOptions:
    """None."""


class Nearest(Detector):
    """Distance to the nearest ID image, in the embedding."""

    kind = "nearest"
    Options = NearestOptions
    info = DetectorInfo(title="Nearest", paper="2026", needs=frozenset({"fitting"}))

    def __init__(self, backbone, options=None, **of):
        super().__init__(backbone, options, **of)
        self.register_buffer("bank", torch.zeros(0, backbone.embedding_dim))

    def forward(self, images):
        return torch.cdist(self.backbone.embed(images), self.bank).amin(1)

    def fit(self, data, *, seed):
        self.bank = collect(self.backbone.embed, data.id)[0].float()
        return self

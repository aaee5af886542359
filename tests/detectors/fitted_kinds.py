"""A small detector of every kind, fitted to three patterns, which it tells from grey images."""

from __future__ import annotations

import copy
import dataclasses
import functools

import torch
from torch.nn import functional

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.fitting import FitData
from atd.detectors.kinds import kind_class

SIZE, CLASSES = 8, ("across", "down", "even")
OPTIONS: dict[str, dict[str, object]] = {
    "daain": {"points": 64, "blocks": 2, "hidden": 8, "epochs": 12, "lr": 5e-3},
    "knn": {"k": 5},
}
"""Options that suit the tiny sets, where a kind's defaults do not."""
BACKBONES: dict[str, dict[str, object]] = {
    "gaia_a": {"activation": "relu"},
    "outlier_class": {"outlier_class": True},
}
"""Options of the backbone, for a kind that tells nothing with the default one."""


def id_images(count, seed):
    """Images (3 * count, 3, 8, 8) of three classes: ramps across and down, and even red."""
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0.1, 0.9, SIZE)
    across = ramp.expand(3, SIZE, SIZE)
    even = torch.tensor([0.9, 0.1, 0.1])[:, None, None].expand(3, SIZE, SIZE)
    patterns = torch.stack([across, across.mT, even]).repeat(count, 1, 1, 1)
    noise = torch.randn(patterns.shape, generator=generator)
    return (patterns + 0.05 * noise).clamp(0, 1), torch.arange(3).repeat(count)


def ood_images(count, seed):
    """Grey images (count, 3, 8, 8) with more noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    return (0.4 + 0.1 * noise).clamp(0, 1)


@functools.cache
def trained_backbone(**options):
    torch.manual_seed(0)
    config = BackboneConfig(width=4, features="last", **options)
    backbone = build_backbone(config, channels=3, classes=3, image_size=SIZE, mean=[0.5] * 3)
    optimiser = torch.optim.Adam(backbone.parameters(), 1e-2)
    for step in range(40):
        images, labels = id_images(16, step)
        if config.outlier_class:
            images = torch.cat([images, ood_images(16, 3000 + step)])
            labels = torch.cat([labels, torch.full((16,), len(CLASSES))])
        optimiser.zero_grad()
        functional.cross_entropy(backbone(images), labels).backward()
        optimiser.step()
    return backbone.eval().requires_grad_(False)


def backbone_of(kind):
    return trained_backbone(**BACKBONES.get(kind, {}))


def fit_data(**changes):
    images, labels = id_images(40, seed=100)
    inside = list(zip(images.split(30), labels.split(30), strict=True))
    outliers = [(part, torch.full((len(part),), -1)) for part in ood_images(60, 200).split(30)]
    return dataclasses.replace(FitData(id=inside, outliers=outliers), **changes)


def unfitted(kind, **options):
    cls = kind_class(kind)
    of = {"image_size": SIZE, "channels": 3, "classes": CLASSES}
    chosen = cls.Options(**{**OPTIONS.get(kind, {}), **options})
    backbone = copy.deepcopy(backbone_of(kind))
    torch.manual_seed(0)
    return cls(backbone, chosen, **of)


def fit(detector):
    detector.fit(fit_data(), seed=0)
    if "training" in detector.info.needs:
        train(detector)
    detector.zero_grad()
    return detector.eval().requires_grad_(False)


def train(detector):
    """Stands in for a kind's own training: the parts besides the backbone learn ID from OOD."""
    detector.set_statistics(detector.features(id_images(40, seed=100)[0]))
    own = [p for name, p in detector.named_parameters() if not name.startswith("backbone.")]
    optimiser = torch.optim.Adam(own, 1e-3)
    for step in range(30):
        inside, outside = id_images(10, 1000 + step)[0], ood_images(30, 2000 + step)
        optimiser.zero_grad()
        wrong = torch.cat([detector(inside), -detector(outside)])
        functional.softplus(wrong).mean().backward()
        optimiser.step()


@functools.cache
def fitted(kind):
    return fit(unfitted(kind))

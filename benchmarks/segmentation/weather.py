"""Inputs that are out of distribution: weather, colours, flips (paper: ColorJitter, Fog, Frost)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import functional as vision

__all__ = ["colour_jitter", "fog", "frost", "upside_down"]


def fog(images: Tensor, seed: int) -> Tensor:
    """White haze (N, C, H, W) that is thicker in some places."""
    haze = 0.35 + 0.4 * _clouds(images, seed)
    return (1 - haze) * images + haze * 0.95


def frost(images: Tensor, seed: int) -> Tensor:
    """Bluish crystals: the ridges of clouds."""
    ridges = 1 - (2 * _clouds(images, seed, finest=16) - 1).abs() * 5
    ice = torch.tensor([0.8, 0.9, 1.0])[:, None, None]
    cover = 0.85 * ridges.clamp(0, 1)
    return (1 - cover) * images + cover * ice


def colour_jitter(images: Tensor, seed: int) -> Tensor:
    """Hue, saturation, contrast and brightness, each changed for every image alone."""
    generator = torch.Generator().manual_seed(seed)
    changed = []
    for image, draw in zip(images, torch.rand(len(images), 4, generator=generator), strict=True):
        hue, others = float(draw[0]) - 0.5, [0.5 + float(value) for value in draw[1:]]
        image = vision.adjust_saturation(vision.adjust_hue(image, hue), 1 + others[0])
        image = vision.adjust_contrast(image, others[1])
        changed.append(vision.adjust_brightness(image, others[2]))
    return torch.stack(changed).clamp(0, 1)


def upside_down(images: Tensor, seed: int) -> Tensor:
    """Flipped from top to bottom."""
    return images.flip(2)


def _clouds(images: Tensor, seed: int, finest: int = 8) -> Tensor:
    """Noise (N, 1, H, W) in [0, 1] of several scales."""
    generator = torch.Generator().manual_seed(seed)
    total, side, weight = torch.zeros(len(images), 1, *images.shape[2:]), 2, 1.0
    while side <= finest:
        noise = torch.rand(len(images), 1, side, side, generator=generator) - 0.5
        resized = functional.interpolate(noise, images.shape[2:], mode="bicubic")
        total, side, weight = total + weight * resized, 2 * side, weight / 2
    low, high = total.amin((1, 2, 3), True), total.amax((1, 2, 3), True)
    return (total - low) / (high - low)

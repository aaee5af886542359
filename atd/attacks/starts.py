"""The random numbers of attacks: what an image gets depends on its place in its set alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["square_draws", "start_noise"]


def start_noise(shape: Sequence[int], indices: Tensor, seed: int, restart: int) -> Tensor:
    """Uniform noise in [-1, 1], each sample's a function of (seed, restart, index) alone.

    Args:
        shape: Shape of one image, (C, H, W).
        indices: Positions (B,) of the samples in their set.
        seed: Seed of the evaluation.
        restart: Number of the restart.

    Returns:
        Noise (B, C, H, W), float32, on the CPU.
    """
    noise = torch.empty(len(indices), *shape)
    for row, generator in zip(noise, _generators(indices, seed, restart), strict=True):
        row.uniform_(-1.0, 1.0, generator=generator)
    return noise


def square_draws(
    images: Tensor, indices: Tensor, seed: int, restart: int, queries: int
) -> tuple[Tensor, Tensor]:
    """All of Square's randomness, each sample's a function of (seed, restart, index) alone.

    Args:
        images: Images (B, C, H, W), for their shape and device.
        indices: Positions (B,) of the samples in their set.
        seed: Seed of the evaluation.
        restart: Number of the restart.
        queries: Queries Q of the attack.

    Returns:
        `draws` (B, Q, 2 + C) in [0, 1) and `stripes` (B, C, W) in [-1, 1], for `square`.
    """
    channels, width = images.shape[1], images.shape[3]
    draws = torch.empty(len(images), queries, 2 + channels)
    stripes = torch.empty(len(images), channels, width)
    for row, generator in enumerate(_generators(indices, seed, restart, queries)):
        draws[row].uniform_(generator=generator)
        stripes[row].uniform_(-1.0, 1.0, generator=generator)
    return draws.to(images.device), stripes.to(images.device)


def _generators(indices: Tensor, *numbers: int) -> list[torch.Generator]:
    """A generator per sample, a function of the numbers and of its position alone."""
    generators = []
    for index in indices.tolist():
        # torch seeds its CPU generator with 32 bits; this mixes all numbers into them.
        mixed = np.random.SeedSequence((*numbers, index)).generate_state(1)
        generators.append(torch.Generator().manual_seed(int(mixed[0])))
    return generators

"""The order of samples as a pure function of seed and position."""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor

__all__ = ["evenly_spaced", "generator_for", "positions_to_indices"]


def generator_for(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Makes a generator whose state depends on a key and on nothing else.

    Args:
        *key: Numbers and words that name the use, e.g. `("order", seed, epoch)`.
        device: Where it draws. Equal keys give equal draws on devices of one kind, not on a CPU
            and a GPU.

    Returns:
        The generator; no global random state is touched.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def evenly_spaced(total: int, count: int) -> Tensor:
    """At most `count` evenly spaced positions, so that sets sorted by class are represented."""
    return torch.linspace(0, total - 1, min(count, total)).round().long()


def positions_to_indices(size: int, seed: int, start: int, count: int) -> Tensor:
    """Says which samples stand at the given positions of an endless, shuffled sequence.

    The sample at position p is `permutation(seed, epoch=p // size)[p % size]`, so a run can be
    resumed, or divided among processes, by its position alone.

    Args:
        size: Number of samples in the set.
        seed: Seed of the order.
        start: First position.
        count: Number of positions.

    Returns:
        (count,) int64 indices below `size`.

    Raises:
        ValueError: `size` is not positive, or `start` or `count` is negative.
    """
    if size < 1 or start < 0 or count < 0:
        raise ValueError(f"impossible positions: size={size}, start={start}, count={count}")
    parts = []
    position, end = start, start + count
    while position < end:
        epoch, offset = divmod(position, size)
        stop = min(size, offset + end - position)
        parts.append(_permutation(size, seed, epoch)[offset:stop])
        position += stop - offset
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


@functools.lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(size, generator=generator_for("order", size, seed, epoch))

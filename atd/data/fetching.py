"""Batches of images in the order asked for, decoded ahead by worker processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from atd.data.budget import take_share
from atd.data.images import ImageSet
from atd.errors import UserError

__all__ = ["batches"]


class _Batches(Dataset[Any]):
    """Hands whole index batches to a worker."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __getitems__(self, indices: list[int]) -> list[Tensor | UserError]:
        try:
            return [self.images.fetch(indices)]
        except UserError as error:  # a loader would pass it on with the worker's traceback
            return [error]


def _only(batch: list[Tensor | UserError]) -> Tensor | UserError:
    return batch[0]


def _begin(worker: int) -> None:
    # Ctrl-C, and the SIGTERM of torchrun, go to a whole process group. The parent needs its
    # workers to end its step before it saves; it ends them itself, and they end without it.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    info = get_worker_info()
    take_share(info.num_workers if info else 1)


def batches(
    images: ImageSet, index_batches: Iterable[Tensor], workers: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Fetches batches in order; sets that stream from disk are decoded by worker processes.

    Args:
        images: The set.
        index_batches: (B,) int64 positions for each batch; may be endless.
        workers: Worker processes for a set that is not in memory.

    Yields:
        uint8 images (B, C, H, W), int64 labels (B,) and the positions (B,), all on the CPU.

    Raises:
        UserError: An image cannot be read.
    """
    if images.in_memory or workers == 0:
        for indices in index_batches:
            yield images.fetch(indices), images.labels[indices], indices
        return
    for_workers, for_labels = itertools.tee(index_batches)
    loader = DataLoader(
        _Batches(images),
        batch_sampler=(indices.tolist() for indices in for_workers),
        num_workers=workers,
        collate_fn=_only,
        worker_init_fn=_begin,
        # A generator of its own keeps the loader's hands off the global random state.
        generator=torch.Generator(),
    )
    for fetched, indices in zip(loader, for_labels, strict=True):
        if isinstance(fetched, UserError):
            raise fetched
        yield fetched, images.labels[indices], indices

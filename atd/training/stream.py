"""Batches of an image set by step number: the same images however many processes there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from atd.data.augment import augment, draw
from atd.data.fetching import batches
from atd.data.images import HeldPixels, ImageSet
from atd.data.sampler import generator_for, positions_to_indices
from atd.training.processes import Processes

__all__ = ["Stream"]

_DEVICE_SHARE = 0.1
"""Of a GPU's free memory, for the pixels of one image set."""


@dataclass(frozen=True)
class Stream:
    """An endless, seekable sequence of augmented batches.

    Args:
        images: The image set.
        batch_size: Images per step over all processes.
        share: This process's part of each batch.
        seed: The run's seed.
        purpose: Tells this stream's randomness from that of others.
        augment: `none`, `crop` or `crop-flip`.
        workers: Loader processes, for sets that stream from disk.
        micro_batches: In how many equal micro-batches this process works off its share.
    """

    images: ImageSet
    batch_size: int
    share: slice
    seed: int
    purpose: str
    augment: Literal["none", "crop", "crop-flip"]
    workers: int = 0
    micro_batches: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which about every image is seen once, at least 1."""
        return max(1, len(self.images) // self.batch_size)

    def batches(
        self, start: int, stop: int, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the batches of steps start to stop.

        Args:
            start: First step, counted from 0.
            stop: One past the last step.
            processes: Where the batches go.

        Yields:
            Images (n, C, H, W) float32 in [0, 1] and labels (n,), on the device.
        """
        order = (self.indices(step)[self.share] for step in range(start, stop))
        loaded = self._loaded(order, processes.device)
        for step, (images, labels, _) in enumerate(loaded, start):
            pixels = images.to(processes.device, non_blocking=True)
            pixels = augment(pixels, self.augment, self.drawn(step)[self.share])
            # In place: with each batch's large copies, malloc comes to hold many times their size.
            yield _channels_last(pixels.float().div_(255)), labels.to(processes.device)

    def _loaded(
        self, order: Iterator[Tensor], device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of the images; a set that a GPU has ample room for is moved there once."""
        pixels = self.images.pixels
        if not (device.type == "cuda" and isinstance(pixels, HeldPixels)):
            return batches(self.images, order, self.workers)
        free, _ = torch.cuda.mem_get_info(device)
        if len(self.images) * pixels.tensor[:1].numel() > _DEVICE_SHARE * free:
            return batches(self.images, order, self.workers)
        held = pixels.tensor[self.images.rows].to(device), self.images.labels.to(device)
        places = (indices.to(device, non_blocking=True) for indices in order)
        return ((held[0][at], held[1][at], at) for at in places)

    def indices(self, step: int) -> Tensor:
        """Positions (batch_size,) in the set of a step's images, over all processes."""
        start = step * self.batch_size
        return positions_to_indices(len(self.images), self.seed, start, self.batch_size)

    def drawn(self, step: int) -> Tensor:
        """What `augment` needs (batch_size, 3) for a step's images, over all processes."""
        # Drawn for the whole batch, so that each image's draw ignores the process count.
        return draw(self.batch_size, generator_for("augment", self.purpose, self.seed, step))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)

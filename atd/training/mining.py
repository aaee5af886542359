"""Informative outliers: those of an epoch are chosen by the network's own score."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from atd.config import PretrainConfig
from atd.data.fetching import batches
from atd.data.sampler import generator_for
from atd.training.processes import Processes
from atd.training.stream import Stream

__all__ = ["MinedOutliers"]

_POOL_OF_MINED = 4
"""Images of the pool for each that is mined, as published; a small pool is then not all mined."""


class MinedOutliers:
    """A stream whose images are mined at the beginning of every epoch (ATOM, algorithm 1).

    The outliers of a pool are ordered by how sure the network is that they are outliers. An epoch
    trains on those behind a quantile: near the ID images, but for the nearest.

    Args:
        stream: All outliers.
        steps_per_epoch: Steps of an epoch.
        config: Size of the pool and quantile.
        processes: The processes that share the work.
    """

    def __init__(
        self, stream: Stream, steps_per_epoch: int, config: PretrainConfig, processes: Processes
    ) -> None:
        self.stream, self.steps_per_epoch = stream, steps_per_epoch
        self.config, self.processes = config, processes
        self.rows = torch.zeros(0, dtype=torch.int64)
        """Rows of the present epoch's outliers among all."""

    def batches(
        self, start: int, stop: int, score: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the batches of steps start to stop.

        Args:
            start: First step; within an epoch, that epoch's outliers were loaded before.
            stop: One past the last step.
            score: Maps images (N, C, H, W) in [0, 1] to how sure the network is (N,) that they are
                outliers; called before the first step of an epoch only.

        Yields:
            Images (n, C, H, W) in [0, 1] and labels (n,), on the device.
        """
        length = self.steps_per_epoch
        while start < stop:
            epoch, done = divmod(start, length)
            if done == 0:
                self.rows = self._mined(epoch, score)
            mined = dataclasses.replace(self.stream, images=self.stream.images.subset(self.rows))
            end = min((epoch + 1) * length, stop)
            yield from mined.batches(start, end, self.processes)
            start = end

    def _mined(self, epoch: int, score: Callable[[Tensor], Tensor]) -> Tensor:
        images, batch = self.stream.images, self.stream.batch_size
        generator = generator_for("pool", self.stream.purpose, self.stream.seed, epoch)
        size = min(self.config.mining_pool or len(images), len(images))
        pool = torch.randperm(len(images), generator=generator)[:size]
        found: list[tuple[float, int]] = []
        turns = [pool[at] for at in self.processes.turns(size)]
        for pixels, _, rows in batches(images, turns, self.stream.workers):
            scores = score(pixels.to(self.processes.device).float() / 255)
            found += zip(scores.tolist(), rows.tolist(), strict=True)
        ordered = [row for _, row in sorted(self.processes.gather(found))]
        count = min(size, max(batch, min(batch * self.steps_per_epoch, size // _POOL_OF_MINED)))
        first = min(int(self.config.mining_quantile * size), size - count)
        return torch.tensor(sorted(ordered[first : first + count]))

    def state(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {"rows": self.rows}

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""
        self.rows = state["rows"]

"""What training tasks are made of: options, image sets, processes, and streams of batches."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from atd.config import Config
from atd.data.images import ImageSet
from atd.data.splits import DataSplits
from atd.errors import UserError
from atd.inference import computes_in_bfloat16
from atd.training.processes import Processes, micro_batches
from atd.training.stream import Stream

__all__ = ["Ingredients", "equal_batches"]


@dataclass(frozen=True)
class Ingredients:
    """What every task is made of.

    Attributes:
        config: All options.
        splits: The image sets.
        processes: The processes that share the work.
    """

    config: Config
    splits: DataSplits
    processes: Processes

    @property
    def bfloat16(self) -> bool:
        """Whether the backbone runs in bfloat16 while training."""
        precision = self.config.run.precision
        native = precision == "auto" and computes_in_bfloat16(self.processes.device)
        return native or precision == "bfloat16"

    def stream(self, images: ImageSet, batch_size: int, key: str, purpose: str) -> Stream:
        """Batches of a set for training; a small set makes them smaller.

        Args:
            images: The set.
            batch_size: Images per step over all processes.
            key: The option that the batch size comes from, for messages.
            purpose: Tells the randomness of this stream from that of others.

        Raises:
            UserError: The batch does not divide among the processes or by `run.device_batch`.
        """
        size, count = min(batch_size, len(images)), self.processes.count
        if size < batch_size and size % count:
            raise UserError(
                f"{key}={batch_size}: {images.name} has only {size} images, which do not divide "
                f"among {count} processes; use {key}={size - size % count}"
            )
        share = self.processes.share(size, key)
        config = self.config
        number, seed = micro_batches(share, config.run.device_batch, key), config.run.seed
        workers = config.loader.workers
        return Stream(images, size, share, seed, purpose, config.data.augment, workers, number)


def equal_batches(*streams: Stream) -> tuple[Stream, Stream]:
    """ID and outlier batches of one size: a small set limits both.

    Raises:
        UserError: There are too few images.
    """
    least = min(streams, key=lambda stream: stream.batch_size)
    inside, outside = (
        dataclasses.replace(
            stream,
            batch_size=least.batch_size,
            share=least.share,
            micro_batches=least.micro_batches,
        )
        for stream in streams
    )
    if least.batch_size < 2:
        raise UserError(f"{inside.images.name}: too few images to train on")
    return inside, outside

"""Ghost batches: which images batch normalisation takes the statistics of together.

Hoffer et al. 2017 (arXiv:1705.08741), algorithm 1: a batch is normalised in smaller batches of a
size of their own. As the size is an option and does not follow from the number of processes,
every process can have whole ghost batches to itself, and nothing is exchanged before the
gradients; nor does it matter in how many micro-batches a process works off its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from atd.errors import UserError
from atd.training.global_norm import normalises_over_batch
from atd.training.stream import Stream

__all__ = ["GhostBatches", "RunningStatistics", "ghost_batches"]

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class GhostBatches:
    """How the passes that train a network divide a batch.

    Attributes:
        micro_batches: Passes, one behind the other, in which a process works off its share.
        span: Processes of neighbouring ranks that share a ghost batch; 1 exchanges nothing.
    """

    micro_batches: int
    span: int = 1


def ghost_batches(
    network: nn.Module, stream: Stream, size: int, processes: int, stage: str
) -> GhostBatches:
    """Divides a batch so that every ghost batch is normalised by itself.

    Args:
        network: The network that is trained; without batch normalisation the size is ignored.
        stream: Its images.
        size: Images of a ghost batch (`pretrain.ghost_batch`); 0 is the whole batch.
        processes: How many processes share a batch.
        stage: The stage of training, for messages.

    Returns:
        The division, the same for every process.

    Raises:
        UserError: Batch, processes or micro-batches do not divide into whole ghost batches.
    """
    if not normalises_over_batch(network):
        return GhostBatches(stream.micro_batches)
    batch, each = stream.batch_size, stream.batch_size // processes
    size = min(size or batch, batch)
    if batch % size or (each % size and size % each):
        raise UserError(
            f"pretrain.ghost_batch={size}: the {batch} images of a step of {stage}, {each} for "
            f"each of {processes} processes, do not divide into such ghost batches; "
            f"use pretrain.ghost_batch={_fitting(batch, each, size)}"
        )
    if each // stream.micro_batches < min(size, each):
        raise UserError(_refusal(stream, size, each, processes))
    return GhostBatches(max(1, each // size), max(1, size // each))


def _fitting(batch: int, each: int, size: int) -> int:
    """The largest smaller ghost batch that would do; 0, the whole batch, where there is none."""
    smaller = [s for s in range(2, size) if batch % s == 0 and not (each % s and s % each)]
    return max(smaller, default=0)


def _refusal(stream: Stream, size: int, each: int, processes: int) -> str:
    """Why a ghost batch is not worked off in micro-batches, and what to do instead."""
    batch, fits = stream.batch_size, each // stream.micro_batches
    remedies = []
    if ghost := _fitting(batch, each, fits + 1):
        remedies.append(f"set pretrain.ghost_batch={ghost} for the statistics of {ghost}")
    counts = (n for n in range(processes + 1, batch + 1) if batch % n == 0 and batch // n <= fits)
    if count := next((n for n in counts if not (batch // n % size and size % (batch // n))), 0):
        remedies.append(f"start {count} processes")
    room = next(part for part in range(min(size, each), each + 1) if each % part == 0)
    remedies.append(f"set run.device_batch={room} if the device has room for so many")
    return (
        f"run.device_batch: each of {processes} processes would work off its {each} images of "
        f"pretrain.batch_size in {stream.micro_batches} micro-batches, but the backbone has batch "
        f"normalisation, which takes the statistics of {size} images together; "
        f"{', '.join(remedies)}, or choose a backbone without batch "
        "normalisation (backbone.architecture=timm:convnext_atto)"
    )


class RunningStatistics:
    """The running statistics of batch normalisation, in a step of several ghost batches.

    Each ghost batch moves them from where the step began, and the step ends with the mean of
    what they were moved to: neither the order of the ghost batches nor the process that had
    them matters.

    Args:
        network: The network that is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._all = [buffer for norm in norms for buffer in norm.buffers()]
        self.values = [buffer for buffer in self._all if buffer.is_floating_point()]
        """Running means and variances; those of all processes are still to be averaged."""

    @torch.no_grad()
    def mean_over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same micro-batches.

        Between them the statistics are set back; after the last they are the mean of all.
        """
        before = _copies(self._all)
        ends: list[list[Tensor]] = []
        for batch in batches:
            if ends:
                for buffer, value in zip(self._all, before, strict=True):
                    buffer.copy_(value)
            yield batch
            ends.append(_copies(self.values))
        for value, found in zip(self.values, zip(*ends, strict=True), strict=True):
            value.copy_(torch.stack(found).mean(0))


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]

"""Work on images shared by processes, kept part by part, so that it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from atd.evaluation.cache import Arrays, ScoreStore
from atd.evaluation.jobs import Positions

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["share_work"]

Found = Arrays | None

_PARTS = 32
"""Parts of a set that are joined at a time: joining copies all that was found before."""


def share_work(
    stores: Sequence[ScoreStore],
    sizes: Sequence[int],
    work: Callable[[Positions], Iterable[tuple[int, Arrays]]],
    *,
    batch_size: int,
    accelerator: Accelerator | None,
    known: Callable[[int], None],
) -> list[Arrays]:
    """Does what is missing on the images of some sets, each process its share.

    Args:
        stores: What was found on each set before, and where what is found is kept.
        sizes: Images of each set.
        work: Takes number of the set and position in it (M, 2) of a batch of images, and gives for
            each set among them its number and what was found.
        batch_size: Images of a batch, at most; batches are filled across sets.
        accelerator: Splits the images over its processes; None works alone.
        known: Called with the number of images on which all was found before.

    Returns:
        What was found on each whole set, on every process.
    """
    rank, world = _place(accelerator)
    found = _shared([store.read() if rank == 0 else None for store in stores], accelerator)
    missing = _missing(sizes, found)
    known(sum(sizes) - len(missing))
    parts = [[] if part is None or rank else [part] for part in found]
    for chunk in _chunks(missing[rank::world], batch_size):
        for number, part in work(chunk):
            stores[number].add(part)
            parts[number].append(part)
            if len(parts[number]) >= _PARTS:
                parts[number] = [stores[number].join(parts[number])]
    wholes = _gathered(stores, parts, accelerator)
    for store, whole in zip(stores, wholes, strict=True) if rank == 0 else ():
        store.finish(whole)
    return wholes


def _place(accelerator: Accelerator | None) -> tuple[int, int]:
    if accelerator is None:
        return 0, 1
    return accelerator.process_index, accelerator.num_processes


def _missing(sizes: Sequence[int], found: Sequence[Found]) -> Positions:
    """Number of the set and position in it (M, 2) of the images on which nothing is known yet."""
    pairs = []
    for number, (size, known) in enumerate(zip(sizes, found, strict=True)):
        left = np.setdiff1d(np.arange(size), known["index"] if known else ())
        pairs.append(np.stack([np.full_like(left, number), left], axis=1))
    return np.concatenate(pairs)


def _chunks(positions: Positions, size: int) -> list[Positions]:
    """As few batches as possible, of nearly equal size."""
    return np.array_split(positions, -(-len(positions) // size)) if len(positions) else []


def _gathered(
    stores: Sequence[ScoreStore], parts: list[list[Arrays]], accelerator: Accelerator | None
) -> list[Arrays]:
    """All processes' findings as whole arrays in each set's order."""
    everywhere = [parts]
    if accelerator is not None and accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        everywhere = gather_object(everywhere)
    return [
        store.join([part for some in of_set for part in some])
        for store, of_set in zip(stores, zip(*everywhere, strict=True), strict=True)
    ]


def _shared(value: list[Found], accelerator: Accelerator | None) -> list[Found]:
    """The main process's view of the cache, so that all processes agree on what is missing."""
    if accelerator is None or accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    box = [value]
    broadcast_object_list(box)
    return box[0]

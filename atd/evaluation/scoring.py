"""Scores of whole image sets, clean and at their worst within a ball, shared over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from atd.attacks.frozen import frozen
from atd.errors import UserError
from atd.evaluation.cache import ScoreStore
from atd.evaluation.metrics import Array
from atd.evaluation.subject import Subject
from atd.evaluation.worst import Attack, attack_batch, join_parts

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Images", "ScoredSet", "attack_scores"]

Positions = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Tick = Callable[[int], None]


class Images(Protocol):
    """What is needed of an image set (`atd.data.images.ImageSet` has it)."""

    @property
    def name(self) -> str:
        """Name shown in tables and messages."""

    def __len__(self) -> int:
        """Number of images."""

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Images (B, C, H, W) as uint8 on the CPU."""


@dataclass(frozen=True)
class ScoredSet:
    """Scores of one image set, in the set's order.

    Attributes:
        name: Name of the image set.
        direction: +1 where the attacker raised scores (ID), -1 where it lowered them (OOD).
        members: The attacks that were tried, as `kind-STEPSxRESTARTS`.
        clean: Scores (N,) of the unchanged images, float64.
        attacked: Worst scores (N,) found; `clean` itself where no attack was asked for.
        zero_gradient: Whether (N,) the score's gradient at the unchanged image is exactly zero,
            so that a gradient attack has nothing to follow.
        broken: Whether (N,) the detector gave a score that is not finite for the image or any
            perturbed version of it.
        member: Which of `members` (N,) found the worst score; -1 for the unchanged image.
        example_index: Positions (E,) of the few images that ended up worst, ascending.
        example_clean: Those images, uint8 (E, C, H, W).
        example_attacked: Their attacked versions, float32 in [0, 1].
    """

    name: str
    direction: int
    members: tuple[str, ...]
    clean: Array
    attacked: Array
    zero_gradient: Flags
    broken: Flags
    member: np.ndarray[Any, np.dtype[np.int8]]
    example_index: Positions
    example_clean: np.ndarray[Any, np.dtype[np.uint8]]
    example_attacked: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def zero_gradient_share(self) -> float:
        """Share of images whose input gradient is exactly zero."""
        return float(self.zero_gradient.mean())


def attack_scores(
    detector: nn.Module,
    images: Images,
    attack: Attack,
    *,
    direction: Literal[1, -1],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    tick: Tick | None = None,
) -> ScoredSet:
    """Scores every image of a set, unchanged and attacked end to end.

    The attack moves the raw score itself, in float32. The attacked score is the worst over the
    unchanged image, all members, restarts and iterates. A sample's randomness depends on the
    seed, the restart and its position in the set, so batch size and number of processes change
    the result by rounding only. Memory holds one batch of images, whatever the set's size.

    Args:
        detector: See `atd.evaluation.subject.Subject`; larger scores = more OOD.
        images: The image set.
        attack: What is done to every image.
        direction: +1 raises scores (for ID images), -1 lowers them (for OOD images).
        batch_size: Images per forward pass.
        device: Where the detector is; ignored when an accelerator is given.
        accelerator: Splits the images over its processes; every process gets the whole result.
        cache: Folder where scores are kept batch by batch, so that the same call goes on where
            it stopped, also on another number of processes.
        tick: Called with the passes through the detector that are done, over all processes.

    Returns:
        The scores of the whole set, on every process.

    Raises:
        UserError: The set is empty, a clean score is not finite, or scores have a wrong shape.
    """
    if len(images) == 0:
        raise UserError(f"{images.name}: the set is empty; give it at least one image")
    tick = tick or (lambda count: None)
    store = ScoreStore.of(cache, detector, images, attack, direction)
    rank, world = _place(accelerator)
    found = _shared(store.read() if rank == 0 else None, accelerator)
    missing = np.setdiff1d(np.arange(len(images)), found["index"] if found else ())
    tick(attack.passes * (len(images) - len(missing)))
    where = torch.device(device) if accelerator is None else accelerator.device
    subject = Subject(detector, attack.draws, images.name)
    found = found if rank == 0 else None
    with frozen(detector, *attack.sources), _full_precision():
        for chunk in _chunks(missing[rank::world], batch_size):
            indices = torch.from_numpy(chunk)
            pixels = images.fetch(indices).to(where)
            part = attack_batch(subject, attack, direction, pixels, indices)
            _require_finite(part["clean"], images.name)
            store.add(part)
            found = join_parts([found, part] if found else [part])
            tick(attack.passes * len(chunk) * world)
    whole = _gathered(found, accelerator)
    if rank == 0 and len(missing):
        store.finish(whole)
    names = tuple(str(member) for member in attack.members)
    arrays = {key: whole[key] for key in whole if key not in ("index", "example_value")}
    return ScoredSet(name=images.name, direction=direction, members=names, **arrays)


def _place(accelerator: Accelerator | None) -> tuple[int, int]:
    if accelerator is None:
        return 0, 1
    return accelerator.process_index, accelerator.num_processes


def _chunks(positions: Positions, size: int) -> list[Positions]:
    return [positions[at : at + size] for at in range(0, len(positions), size)]


def _require_finite(scores: Array, name: str) -> None:
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise UserError(
            f"{name}: {bad} of {len(scores)} scores of a batch of unchanged images are NaN or "
            "infinite; check the detector's weights"
        )


@contextmanager
def _full_precision() -> Iterator[None]:
    """No autocast and no TF32: robustness is measured with the detector that is shipped."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products


def _gathered(found: dict[str, Any] | None, accelerator: Accelerator | None) -> dict[str, Any]:
    """All processes' scores as whole arrays in the set's order."""
    parts = [] if found is None else [found]
    if accelerator is not None and accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        parts = gather_object(parts)
    return join_parts(parts)


def _shared(value: dict[str, Any] | None, accelerator: Accelerator | None) -> dict[str, Any] | None:
    """The main process's view of the cache, so that all processes agree on what is missing."""
    if accelerator is None or accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    box: list[dict[str, Any] | None] = [value]
    broadcast_object_list(box)
    return box[0]

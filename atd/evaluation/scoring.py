"""Scores of whole image sets, clean and at their worst within a ball, shared over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.cache import ScoreStore, attack_question, fingerprint
from atd.evaluation.jobs import Images, Job, Positions, ScoredSet
from atd.evaluation.sharing import share_work
from atd.evaluation.subject import Subject
from atd.evaluation.worst import Attack, Group, attack_batch
from atd.inference import frozen
from atd.metrics import Array

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["attack_scores", "attack_sets", "full_precision"]

Tick = Callable[[int], None]


def attack_scores(
    detector: Detector,
    images: Images,
    attack: Attack,
    *,
    direction: Literal[1, -1],
    **options: Any,
) -> ScoredSet:
    """Scores one set, as `attack_sets` scores several.

    Args:
        detector: The detector.
        images: The image set.
        attack: What is done to every image.
        direction: +1 raises scores (for ID images), -1 lowers them (for OOD images).
        **options: As for `attack_sets`.

    Returns:
        The scores of the whole set, on every process.

    Raises:
        UserError: As `attack_sets`.
    """
    return attack_sets(detector, [Job(images, direction, attack)], **options)[0]


def attack_sets(
    detector: Detector,
    jobs: Sequence[Job],
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    tick: Tick | None = None,
) -> list[ScoredSet]:
    """Scores every image of some sets, unchanged and attacked end to end.

    The attack moves the raw score itself, in float32. The attacked score is the worst over the
    unchanged image, all members, restarts and iterates. A sample's randomness depends on the
    seed, the restart and its position in the set, so batch size and number of processes change
    nothing on CPUs and what rounding does on GPUs. Batches are filled across sets, since small
    ones cost nearly as much as large ones. Memory holds one batch of images, whatever the sets'
    sizes.

    Args:
        detector: The detector.
        jobs: The sets, and what is done to each.
        batch_size: Images per forward pass, at most.
        device: Where the detector is; ignored when an accelerator is given.
        accelerator: Splits the images over its processes; every process gets the whole result.
        cache: Folder where scores are kept batch by batch, so that the same call goes on where
            it stopped, also on another number of processes.
        tick: Called with the passes through the detector that are done, over all processes.

    Returns:
        The scores of each whole set, on every process.

    Raises:
        UserError: A set is empty, a clean score is not finite, or scores have a wrong shape.
        ValueError: The attacks differ in more than they may.
    """
    for job in jobs:
        if len(job.images) == 0:
            raise UserError(f"{job.images.name}: the set is empty; give it at least one image")
    attack = _common([job.attack for job in jobs])
    tick = tick or (lambda count: None)
    modules = "".join(map(fingerprint, (detector, *attack.sources))).encode() if cache else b""
    stores = [
        ScoreStore.of(cache, j.images, modules, attack_question(j.attack, j.direction))
        for j in jobs
    ]
    world = 1 if accelerator is None else accelerator.num_processes
    where = torch.device(device) if accelerator is None else accelerator.device

    def work(chunk: Positions) -> list[tuple[int, dict[str, Any]]]:
        told = _Work(tick, attack.passes * len(chunk), world)
        parts = _attacked(detector, jobs, chunk, where, told.passed)
        told.done()
        return parts

    with frozen(detector, *attack.sources), full_precision():
        wholes = share_work(
            stores,
            [len(job.images) for job in jobs],
            work,
            batch_size=batch_size,
            accelerator=accelerator,
            known=lambda count: tick(attack.passes * count),
        )
    return [_scored(job, whole) for job, whole in zip(jobs, wholes, strict=True)]


class _Work:
    """The passes of one batch, told while its attacks make them.

    Attacks that stop early make fewer, others some more than were counted on: in the end, what was
    counted on has been told.
    """

    def __init__(self, tick: Tick, passes: int, world: int) -> None:
        self.tick, self.left, self.world = tick, passes, world

    def passed(self, count: int) -> None:
        told = min(count, self.left)
        self.left -= told
        self.tick(told * self.world)

    def done(self) -> None:
        self.passed(self.left)


def _common(attacks: Sequence[Attack]) -> Attack:
    """What all attacks have in common."""
    first, *others = (replace(attack, stop=None, targets=None) for attack in attacks)
    if any(other != first for other in others):
        raise ValueError("attacks of one call may differ in stop and targets only")
    return first


def _attacked(
    detector: Detector, jobs: Sequence[Job], chunk: Positions, where: torch.device, passed: Tick
) -> list[tuple[int, dict[str, Any]]]:
    """Attacks one batch; numbers of jobs with what was found on their images."""
    numbers = np.unique(chunk[:, 0]).tolist()
    groups = []
    for number in numbers:
        job, indices = jobs[number], torch.from_numpy(chunk[chunk[:, 0] == number, 1])
        pixels = job.images.fetch(indices).to(where)
        groups.append(Group(pixels, indices, job.direction, job.attack))
    names = [jobs[number].images.name for number in numbers]
    draws, sets = groups[0].attack.draws, " + ".join(names)
    subject = Subject(detector, draws, sets, passed=passed, whole_blocks=True)
    parts = attack_batch(subject, groups)
    for part, name in zip(parts, names, strict=True):
        _require_finite(part["clean"], name)
    return list(zip(numbers, parts, strict=True))


def _scored(job: Job, whole: dict[str, Any]) -> ScoredSet:
    names = tuple(str(member) for member in job.attack.members)
    arrays = {key: whole[key] for key in whole if key not in ("index", "example_value")}
    return ScoredSet(name=job.images.name, direction=job.direction, members=names, **arrays)


def _require_finite(scores: Array, name: str) -> None:
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise UserError(
            f"{name}: {bad} of {len(scores)} scores of a batch of unchanged images are NaN or "
            "infinite; check the detector's weights"
        )


@contextmanager
def full_precision() -> Iterator[None]:
    """No autocast and no TF32, whose rounding some kinds would pass for masked gradients."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products

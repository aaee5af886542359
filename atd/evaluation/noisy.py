"""Scores of noisy copies of every image: of the image itself, or of one attacked in the noise.

What an image gets depends on the seed and on its position in its set alone, whatever the batches
and the processes are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from atd.attacks import pgd
from atd.detectors.base import Detector
from atd.evaluation.cache import Arrays, ScoreStore, are_positions, code_digest, fingerprint
from atd.evaluation.jobs import Images, Positions
from atd.evaluation.scoring import full_precision
from atd.evaluation.settings import Settings
from atd.evaluation.sharing import share_work
from atd.evaluation.subject import Subject
from atd.inference import frozen
from atd.metrics import Array

__all__ = ["Noise", "NoisyJob", "noisy_scores"]

_COPIES, _STEPS = 16, 10


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is done to every image before it is scored.

    Attributes:
        sigma: Standard deviation of the noise on the [0, 1] scale; copies are not clipped.
        draws: Noisy copies of each image.
        radius: The copies are those of an image that was attacked within this L2 ball, by PGD on
            the mean score of a few noisy copies, which are other ones than those scored here.
    """

    sigma: float
    draws: int
    radius: float = 0.0

    @property
    def passes(self) -> int:
        """Passes through the detector per image, forward and backward."""
        return self.draws + (_COPIES * (2 * _STEPS + 1) if self.radius else 0)

    @property
    def attack(self) -> str:
        """The attack in a few words."""
        return f"PGD-{_STEPS} on the mean score of {_COPIES} noisy copies"


@dataclass(frozen=True, eq=False)
class NoisyJob:
    """A set, and which way its scores are worse: +1 up (ID images), -1 down (OOD images)."""

    images: Images
    direction: Literal[1, -1]


def noisy_scores(
    detector: Detector,
    jobs: Sequence[NoisyJob],
    noise: Noise,
    settings: Settings,
    tick: Callable[[int], None],
) -> list[Array]:
    """Scores noisy copies of every image of some sets.

    Args:
        detector: The detector; no gradient is needed, though an attack without one finds little.
        jobs: The sets.
        noise: What is done to every image.
        settings: Seed, device, batch size, processes and cache, as for an attack.
        tick: Called with the passes through the detector that are done, over all processes.

    Returns:
        For each set the scores (N, draws), in no order; one that is not finite is infinitely bad.
    """
    folder = settings.cache
    modules = fingerprint(detector).encode() if folder else b""
    how = {"is_whole": _is_whole(noise.draws), "join": _join}
    stores = [
        ScoreStore.of(folder, job.images, modules, _question(noise, settings, job), **how)
        for job in jobs
    ]
    world = 1 if settings.accelerator is None else settings.accelerator.num_processes

    def work(chunk: Positions) -> Iterator[tuple[int, Arrays]]:
        for number in np.unique(chunk[:, 0]).tolist():
            job, index = jobs[number], chunk[chunk[:, 0] == number, 1]
            subject = Subject(
                detector,
                where=job.images.name,
                passed=lambda count: tick(count * world),
                whole_blocks=True,
            )
            yield number, {"index": index, "scores": _scored(subject, job, index, noise, settings)}

    with frozen(detector), full_precision():
        wholes = share_work(
            stores,
            [len(job.images) for job in jobs],
            work,
            batch_size=max(1, settings.batch_size // (_COPIES if noise.radius else noise.draws)),
            accelerator=settings.accelerator,
            known=lambda count: tick(noise.passes * count),
        )
    return [whole["scores"] for whole in wholes]


def _scored(
    subject: Subject, job: NoisyJob, index: Any, noise: Noise, settings: Settings
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Scores (B, draws) of the images at some positions of a set."""
    images = job.images.fetch(torch.from_numpy(index)).to(settings.place).float() / 255
    streams = [_Stream(images[0], noise.sigma, settings.seed, at) for at in index.tolist()]
    if noise.radius:
        images = _attacked(subject, images, job.direction, noise.radius, streams)
    sizes = [len(part) for part in torch.arange(noise.draws).split(settings.batch_size)]
    found = []
    with torch.no_grad():
        for image, stream in zip(images, streams, strict=True):
            scores = torch.cat([subject.score(image + stream.draw(size)) for size in sizes])
            found.append(torch.where(scores.isfinite(), scores, job.direction * torch.inf))
    return torch.stack(found).float().cpu().numpy()


class _Stream:
    """The noise of one image, the same however many copies are drawn at a time."""

    def __init__(self, image: Tensor, sigma: float, seed: int, index: int) -> None:
        self.shape, self.device, self.sigma = image.shape, image.device, sigma
        self.generator = np.random.default_rng([seed, index])

    def draw(self, count: int) -> Tensor:
        """Noise (count, C, H, W)."""
        shape = (count, *self.shape)
        drawn = torch.from_numpy(self.generator.standard_normal(shape, dtype=np.float32))
        return drawn.to(self.device).mul_(self.sigma)


def _attacked(
    subject: Subject, images: Tensor, direction: int, radius: float, streams: Sequence[_Stream]
) -> Tensor:
    """Images (B, C, H, W) moved so that the mean score of noisy copies gets worse."""
    noise = torch.stack([stream.draw(_COPIES) for stream in streams])
    objective = subject.objective(direction)

    def mean(moved: Tensor) -> Tensor:
        copies = (moved.unsqueeze(1) + noise).flatten(0, 1)
        return objective(copies).view(len(moved), _COPIES).mean(1)

    return pgd(mean, images, epsilon=radius, steps=_STEPS, norm="l2").images


def _question(noise: Noise, settings: Settings, job: NoisyJob) -> bytes:
    """Everything that the scores depend on beside detector and images; code too."""
    digest = hashlib.sha256(code_digest() + Path(__file__).read_bytes())
    digest.update(repr((noise, settings.seed, job.direction)).encode())
    return digest.digest()


def _is_whole(draws: int) -> Callable[[Arrays, int], bool]:
    def check(arrays: Arrays, images: int) -> bool:
        if set(arrays) != {"index", "scores"} or not are_positions(arrays["index"], images):
            return False
        scores, shape = arrays["scores"], (len(arrays["index"]), draws)
        return (
            bool(scores.shape == shape and scores.dtype == np.float32)
            and not np.isnan(scores).any()
        )

    return check


def _join(parts: Sequence[Arrays]) -> Arrays:
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(whole["index"])
    return {key: value[order] for key, value in whole.items()}

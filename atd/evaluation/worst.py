"""The worst score of each image over all members of an attack, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atd.attacks import (
    Attacked,
    Norm,
    Objective,
    apgd,
    feature_distance,
    fgsm,
    nearest_targets,
    pgd,
    random_noise,
    square,
    transfer,
)
from atd.evaluation.subject import Subject
from atd.evaluation.tiers import Member

__all__ = ["Attack", "attack_batch", "join_parts", "start_noise"]

_EXAMPLES = 6
"""Images of a set that are kept for pictures: those that end up worst."""

_MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is done to every image of a set.

    Attributes:
        members: The attacks; none means that the images stay as they are.
        epsilon: Radius of the ball on the [0, 1] scale.
        norm: Its norm.
        seed: Seed of random starts.
        draws: Evaluations averaged for a randomised detector.
        stop: A sample whose score has passed this value is attacked no further; None never
            stops. See `atd.evaluation.protocol` for the value at which no metric can change.
        targets: Images (T, C, H, W), float in [0, 1], whose features the feature-space attack
            aims at; None leaves that member out.
        sources: Other detectors, from which adversarial images are transferred.
    """

    members: tuple[Member, ...]
    epsilon: float
    norm: Norm = "linf"
    seed: int = 0
    draws: int = 1
    stop: float | None = None
    targets: Tensor | None = None
    sources: tuple[nn.Module, ...] = ()

    @property
    def passes(self) -> int:
        """Passes through the detector per image, forward and backward, without early stops."""
        return self.draws * (2 + sum(sum(member.passes) for member in self.members))


def attack_batch(
    subject: Subject, attack: Attack, direction: int, pixels: Tensor, indices: Tensor
) -> dict[str, Any]:
    """Attacks one batch with every member and keeps each image's worst.

    Args:
        subject: The detector.
        attack: What to do.
        direction: +1 raises scores, -1 lowers them.
        pixels: Images (B, C, H, W), uint8, on the detector's device.
        indices: Positions (B,) of the images in their set, which fix their random starts.

    Returns:
        Arrays for `ScoredSet`, with the positions under `index`.
    """
    return _Batch(subject, attack, direction, pixels, indices).run()


class _Batch:
    def __init__(
        self, subject: Subject, attack: Attack, direction: int, pixels: Tensor, indices: Tensor
    ) -> None:
        self.subject, self.attack, self.direction = subject, attack, direction
        self.pixels, self.indices = pixels, indices
        self.clean = pixels.float().div_(255.0)
        self.broken = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        self.member = torch.full((len(pixels),), -1, dtype=torch.int8, device=pixels.device)

    def run(self) -> dict[str, Any]:
        values, zero_gradient = self._unchanged()
        best = Attacked(self.clean, values)
        for number, member in enumerate(self.attack.members):
            for restart in range(self._restarts(member)):
                best = self._improve(best, number, member, restart)
        return self._arrays(values, zero_gradient, best)

    def _unchanged(self) -> tuple[Tensor, Tensor]:
        inputs = self.clean.clone().requires_grad_(True)
        with torch.enable_grad():
            values = self.subject.objective(self.direction, self.broken)(inputs)
            (gradient,) = torch.autograd.grad(values.sum(), inputs)
        return values.detach(), gradient.flatten(1).eq(0).all(1)

    def _restarts(self, member: Member) -> int:
        match member.kind:
            case "transfer":
                return len(self.attack.sources)
            case "features" if self.attack.targets is None or self.subject.features is None:
                return 0
            case "square" if self.attack.norm != "linf":
                return 0
            case _:
                return member.restarts

    def _improve(self, best: Attacked, number: int, member: Member, restart: int) -> Attacked:
        """Runs one restart on the images that may still get worse."""
        stop = self.attack.stop
        active = torch.ones_like(best.values, dtype=torch.bool)
        if stop is not None:
            active = best.values <= self.direction * stop
        rows = active.nonzero().squeeze(1)
        if not len(rows):
            return best
        broken = self.broken[rows]
        found = self._try(rows, self.subject.objective(self.direction, broken), member, restart)
        self.broken[rows] |= broken
        wins = found.values > best.values[rows]
        won = rows[wins]
        self.member[won] = number
        images, values = best.images.clone(), best.values.clone()
        images[won], values[won] = found.images[wins], found.values[wins]
        return Attacked(images, values)

    def _try(self, rows: Tensor, objective: Objective, member: Member, restart: int) -> Attacked:
        images, attack = self.clean[rows], self.attack
        indices = self.indices[rows.cpu()]
        ball: dict[str, Any] = {"epsilon": attack.epsilon, "norm": attack.norm}
        noise = start_noise(images.shape[1:], indices, attack.seed, restart).to(images.device)
        match member.kind:
            case "pgd" | "momentum":
                momentum = _MOMENTUM if member.kind == "momentum" else 0.0
                return pgd(
                    objective, images, steps=member.steps, noise=noise, momentum=momentum, **ball
                )
            case "apgd":
                return apgd(objective, images, steps=member.steps, noise=noise, **ball)
            case "features":
                return self._features(images, objective, member, restart, ball)
            case "saturating":
                strong = _stepped(member.steps, noise, ball)
                return transfer(_saturating(objective), objective, images, attack=strong)
            case "transfer":
                source = Subject(attack.sources[restart], attack.draws).objective(self.direction)
                strong = _stepped(member.steps, noise, ball)
                return transfer(source, objective, images, attack=strong)
            case "square":
                draws, stripes = _square_draws(images, indices, attack.seed, restart, member.steps)
                return square(objective, images, draws=draws, stripes=stripes, **ball)
            case "fgsm":
                return fgsm(objective, images, **ball)
            case "noise":
                return random_noise(objective, images, noise=noise, **ball)

    def _features(
        self, images: Tensor, objective: Objective, member: Member, restart: int, ball: Any
    ) -> Attacked:
        """Moves each image's features towards those of the nearest image of the other side.

        Every restart has targets of its own.
        """
        features, targets = self.subject.features, self.attack.targets
        assert features is not None  # noqa: S101  `_restarts` leaves the member out otherwise
        assert targets is not None  # noqa: S101
        with torch.no_grad():
            candidates = features(targets[restart :: member.restarts].to(images.device))
            aims = nearest_targets(features(images), candidates)
        found = apgd(feature_distance(features, aims), images, steps=member.steps, **ball)
        return Attacked.of(objective, found.images)

    def _arrays(self, values: Tensor, zero_gradient: Tensor, best: Attacked) -> dict[str, Any]:
        def scores(of: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
            return (of * self.direction).cpu().double().numpy()

        worst = best.values.argsort(descending=True, stable=True)[:_EXAMPLES].cpu()
        return {
            "index": self.indices.numpy(),
            "clean": scores(values),
            "attacked": scores(best.values),
            "zero_gradient": zero_gradient.cpu().numpy(),
            "broken": self.broken.cpu().numpy(),
            "member": self.member.cpu().numpy(),
            "example_index": self.indices[worst].numpy(),
            "example_value": best.values[worst.to(best.values.device)].cpu().double().numpy(),
            "example_clean": self.pixels[worst.to(self.pixels.device)].cpu().numpy(),
            "example_attacked": best.images[worst.to(best.images.device)].cpu().numpy(),
        }


def join_parts(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins what `attack_batch` returned for several batches, in the order of the positions.

    Of the pictures only the worst are kept, so that memory does not grow with the set.
    """
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(whole["index"])
    # Sorted by value, equal values by position, whatever the batches were.
    worst = np.lexsort((whole["example_index"], -whole["example_value"]))[:_EXAMPLES]
    worst = worst[np.argsort(whole["example_index"][worst])]
    return {
        key: value[worst if key.startswith("example") else order] for key, value in whole.items()
    }


def _saturating(objective: Objective) -> Objective:
    """The binary cross-entropy that published attacks maximise; its gradient can vanish."""
    return lambda images: nn.functional.softplus(objective(images))


def _stepped(steps: int, noise: Tensor, ball: Any) -> Callable[[Objective, Tensor], Attacked]:
    return lambda objective, images: pgd(objective, images, steps=steps, noise=noise, **ball)


def _generators(indices: Tensor, *numbers: int) -> list[torch.Generator]:
    """A generator per sample, a function of the numbers and of its position alone."""
    generators = []
    for index in indices.tolist():
        # torch seeds its CPU generator with 32 bits; this mixes all numbers into them.
        mixed = np.random.SeedSequence((*numbers, index)).generate_state(1)
        generators.append(torch.Generator().manual_seed(int(mixed[0])))
    return generators


def start_noise(shape: Sequence[int], indices: Tensor, seed: int, restart: int) -> Tensor:
    """Uniform noise in [-1, 1], each sample's a function of (seed, restart, index) alone.

    Args:
        shape: Shape of one image, (C, H, W).
        indices: Positions (B,) of the samples in their set.
        seed: Seed of the evaluation.
        restart: Number of the restart.

    Returns:
        Noise (B, C, H, W), float32, on the CPU.
    """
    noise = torch.empty(len(indices), *shape)
    for row, generator in zip(noise, _generators(indices, seed, restart), strict=True):
        row.uniform_(-1.0, 1.0, generator=generator)
    return noise


def _square_draws(
    images: Tensor, indices: Tensor, seed: int, restart: int, queries: int
) -> tuple[Tensor, Tensor]:
    """All of Square's randomness, each sample's a function of (seed, restart, index) alone."""
    channels, width = images.shape[1], images.shape[3]
    draws = torch.empty(len(images), queries, 2 + channels)
    stripes = torch.empty(len(images), channels, width)
    for row, generator in enumerate(_generators(indices, seed, restart, queries)):
        draws[row].uniform_(generator=generator)
        stripes[row].uniform_(-1.0, 1.0, generator=generator)
    return draws.to(images.device), stripes.to(images.device)

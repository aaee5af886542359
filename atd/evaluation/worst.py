"""The worst score of each image over all members of an attack, batch by batch.

An image whose score has passed `Attack.stop` is attacked no further, and leaves the batch of the
attack that got it there: the others go on in a smaller one. What an image gets is still its own:
until it is finished no other image enters its score, and what it had when it passed stays. On a
CPU not even rounding depends on the size of a batch (`atd.inference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atd.attacks import Attacked, Norm
from atd.attacks.objective import value_and_gradient
from atd.attacks.suite import Means, Member, Situation
from atd.detectors.base import Detector
from atd.evaluation.subject import Subject

__all__ = ["Attack", "Group", "attack_batch", "join_parts"]

_EXAMPLES = 6
"""Images of a set that are kept for pictures: those that end up worst."""


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
            stops. See `atd.evaluation.stops` for the value at which no metric can change.
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
    sources: tuple[Detector, ...] = ()

    @property
    def passes(self) -> int:
        """Passes through the detector per image, forward and backward, without early stops."""
        return self.draws * (2 + sum(sum(member.passes) for member in self.members))


@dataclass(frozen=True, eq=False)
class Group:
    """The images of one set within a batch.

    Attributes:
        pixels: Images (B, C, H, W), uint8, on the detector's device.
        indices: Positions (B,) of the images in their set, which fix their random starts.
        direction: +1 raises scores, -1 lowers them.
        attack: What to do.
    """

    pixels: Tensor
    indices: Tensor
    direction: int
    attack: Attack

    @property
    def enough(self) -> float:
        """The score times direction past which an image is finished."""
        stop = self.attack.stop
        return torch.inf if stop is None else stop * self.direction


def attack_batch(subject: Subject, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Attacks one batch with every member and keeps each image's worst.

    Args:
        subject: The detector.
        groups: The batch. All attacks must be the same but for `stop` and `targets`.

    Returns:
        For each group arrays for `ScoredSet`, with the positions under `index`.
    """
    return _Batch(subject, groups).run()


class _Batch:
    def __init__(self, subject: Subject, groups: Sequence[Group]) -> None:
        self.subject, self.groups, self.attack = subject, groups, groups[0].attack
        self.sizes = [len(group.pixels) for group in groups]
        pixels = torch.cat([group.pixels for group in groups])
        self.clean = pixels.float().div_(255.0)
        self.indices = torch.cat([group.indices for group in groups])
        self.directions = self._each([float(group.direction) for group in groups])
        self.broken = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        self.member = torch.full((len(pixels),), -1, dtype=torch.int8, device=pixels.device)
        self.objective = subject.objective(self.directions, self.broken)
        self.group = self._each(list(range(len(groups))))
        aims = [group.attack.targets for group in groups]
        self.targets = tuple(targets for targets in aims if targets is not None)
        self.means = Means(
            norm=self.attack.norm,
            features=len(self.targets) == len(groups),
            sources=len(self.attack.sources),
        )
        self.enough = None
        if any(group.attack.stop is not None for group in groups):
            self.enough = self._each([group.enough for group in groups])

    def _each(self, numbers: Sequence[float]) -> Tensor:
        """A number of each group, given to each of its images (B,)."""
        each = torch.tensor(numbers).repeat_interleave(torch.tensor(self.sizes))
        return each.to(self.groups[0].pixels.device)

    def run(self) -> list[dict[str, Any]]:
        values, zero_gradient = self._unchanged()
        best = Attacked(self.clean, values)
        for number, member in enumerate(self.attack.members):
            runs = 0 if member.lacks(self.means) else member.runs(self.means)
            for restart in range(runs):
                best = self._improve(best, number, member, restart)
        rows = torch.arange(len(values)).split(self.sizes)
        return [
            self._arrays(group, at, values, zero_gradient, best)
            for group, at in zip(self.groups, rows, strict=True)
        ]

    def _unchanged(self) -> tuple[Tensor, Tensor]:
        values, gradient = value_and_gradient(self.objective, self.clean)
        return values, gradient.flatten(1).eq(0).all(1)

    def _improve(self, best: Attacked, number: int, member: Member, restart: int) -> Attacked:
        """Runs one restart on the images that may still get worse."""
        rows = torch.arange(len(best.values), device=best.values.device)
        if self.enough is not None:
            rows = rows[~(best.values > self.enough)]
        if not len(rows):
            return best
        found = member.run(self._situation(rows, restart))
        wins = found.values > best.values[rows]
        won = rows[wins]
        self.member[won] = number
        images, values = best.images.clone(), best.values.clone()
        images[won], values[won] = found.images[wins], found.values[wins]
        return Attacked(images, values)

    def _situation(self, rows: Tensor, restart: int) -> Situation:
        attack, directions = self.attack, self.directions[rows]
        passed = self.subject.passed
        sources = (
            Subject(other, attack.draws, passed=passed, whole_blocks=True)
            for other in attack.sources
        )
        return Situation(
            images=self.clean[rows],
            objective=self.objective.only(rows),
            epsilon=attack.epsilon,
            norm=attack.norm,
            indices=self.indices[rows.cpu()],
            seed=attack.seed,
            restart=restart,
            enough=None if self.enough is None else self.enough[rows],
            features=self.subject.features,
            targets=self.targets,
            group=self.group[rows],
            sources=tuple(source.objective(directions) for source in sources),
        )

    def _arrays(
        self, group: Group, rows: Tensor, values: Tensor, zero_gradient: Tensor, best: Attacked
    ) -> dict[str, Any]:
        def scores(of: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
            return (of[at] * group.direction).cpu().double().numpy()

        at = rows.to(values.device)
        worst = best.values[at].argsort(descending=True, stable=True)[:_EXAMPLES]
        return {
            "index": group.indices.numpy(),
            "clean": scores(values),
            "attacked": scores(best.values),
            "zero_gradient": zero_gradient[at].cpu().numpy(),
            "broken": self.broken[at].cpu().numpy(),
            "member": self.member[at].cpu().numpy(),
            "example_index": group.indices[worst.cpu()].numpy(),
            "example_value": best.values[at][worst].cpu().double().numpy(),
            "example_clean": group.pixels[worst].cpu().numpy(),
            "example_attacked": best.images[at][worst].cpu().numpy(),
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

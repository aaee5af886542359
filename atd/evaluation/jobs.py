"""Image sets that are to be scored, and the scores that they got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from atd.evaluation.worst import Attack
from atd.metrics import Array

__all__ = ["Images", "Job", "Positions", "ScoredSet"]

Positions = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


class Images(Protocol):
    """What is needed of an image set (`atd.data.images.ImageSet` has it)."""

    @property
    def name(self) -> str:
        """Name shown in tables and messages."""

    def __len__(self) -> int:
        """Number of images."""

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Images (B, C, H, W) as uint8 on the CPU."""


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        side = "ID, attacked upwards" if self.direction > 0 else "OOD, attacked downwards"
        return f"ScoredSet({self.name}: {len(self.clean)} images, {side})"


@dataclass(frozen=True, eq=False)
class Job:
    """A set and what is done to it.

    Attributes:
        images: The image set.
        direction: +1 raises scores (for ID images), -1 lowers them (for OOD images).
        attack: The attack; that of jobs done together may differ in `stop` and `targets` only.
    """

    images: Images
    direction: Literal[1, -1]
    attack: Attack

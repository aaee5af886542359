"""What a stage of training brings to the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor

from atd.training.logbook import Logbook

__all__ = ["Task"]


class Task(Protocol):
    """One stage of training."""

    stage: str
    steps: int
    steps_per_epoch: int
    batch_size: int

    def batches(self, start: int) -> Iterator[Any]:
        """The batches of the steps from `start` on."""

    def step(self, step: int, batch: Any) -> dict[str, Tensor]:
        """One update; returns detached scalars, the same ones each time, `loss` among them."""

    def validate(self, step: int, logbook: Logbook) -> dict[str, float]:
        """Measures on held-out images; `selection` decides which epoch is kept (larger wins)."""

    def warnings(self, means: dict[str, float]) -> list[str]:
        """What a person should know, from the epoch's mean scalars."""

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs."""

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""

    def weights(self) -> dict[str, Any]:
        """Copies of the weights that the stage is trained for."""

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Takes back what `weights` returned."""

"""Samples on which an attack has reached enough leave its batch; the others go on without them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atd.attacks.objective import Attacked

__all__ = ["Unfinished", "only"]

_EVERY = 4
"""Steps between two looks at the values, each of which waits for the device."""

_SHARE = 0.9
"""The batch is made smaller when at most this share of it is unfinished."""


class Unfinished:
    """The samples of an attack that are still worked on, and what came of the others.

    A sample is finished once its best value exceeds `enough`. From then on its outcome stays as
    it is (`Attacked.beaten`), so that it does not depend on how long its batch mates keep it in
    the batch. A smaller batch changes a network's results by rounding only.

    Args:
        enough: A value, or values (N,); None finishes no sample.

    Attributes:
        enough: That of the samples that are left.
    """

    def __init__(self, enough: float | Tensor | None) -> None:
        self.enough = enough
        self._rows: Tensor | None = None
        self._outcome: Attacked | None = None

    def left(self, step: int, best: Attacked) -> Tensor | None:
        """Looks, every few steps, which samples are worth going on with.

        Args:
            step: Number of the step, counted from 1.
            best: The best so far of the samples that are left (M, ...).

        Returns:
            Their rows, to be applied with `only` to everything that has a row for each sample;
            none of them if the attack is over. None where the batch stays as it is.
        """
        if self.enough is None or step % _EVERY:
            return None
        unfinished = ~(best.values > self.enough)
        if int(unfinished.sum()) > _SHARE * len(unfinished):
            return None
        rows = unfinished.nonzero().squeeze(1)
        self._store(best)
        assert self._rows is not None  # noqa: S101  `_store` sets it
        self._rows, (self.enough,) = self._rows[rows], only(rows, self.enough)
        return rows

    def outcome(self, best: Attacked) -> Attacked:
        """The best of all samples of the attack, in their order, given that of those left."""
        if self._outcome is None:
            return best
        self._store(best)
        return self._outcome

    def _store(self, best: Attacked) -> None:
        if self._outcome is None or self._rows is None:
            self._rows = torch.arange(len(best.values), device=best.values.device)
            self._outcome = Attacked(best.images.clone(), best.values.clone())
        self._outcome.images[self._rows] = best.images
        self._outcome.values[self._rows] = best.values


def only(rows: Tensor, *parts: Any) -> tuple[Any, ...]:
    """Narrows each part of an attack to some of its samples.

    Args:
        rows: Rows (M,) of the samples.
        parts: Tensors with a row for each sample, and objects with a method `only(rows)`;
            anything else is the same for all samples and stays as it is.
    """

    def narrowed(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part[rows]
        return part.only(rows) if hasattr(part, "only") else part

    return tuple(map(narrowed, parts))

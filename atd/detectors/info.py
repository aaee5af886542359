"""What is true of every detector of a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DetectorInfo", "Need"]

Need = Literal["logits", "labels", "outliers", "fitting", "training"]


@dataclass(frozen=True, kw_only=True)
class DetectorInfo:
    """What is true of every detector of a kind."""

    title: str
    paper: str
    """Authors, year and arXiv number."""
    needs: frozenset[Need] = frozenset()
    """`fitting`: `fit` must be called; with `labels` (classes of the ID images) or `outliers`
    where they are named; `training`: has an own training loop (`atd.training`); `logits`: reads
    the backbone's class logits, of at least two classes."""
    gradient: Literal["exact", "surrogate", "none"] = "exact"
    """Whether autograd's gradient is the score's, or `surrogate` stands in for it."""
    exportable: Literal[True] | str = True
    """True, or the reason why it cannot be exported, in a few words."""
    any_network: bool = False
    """Whether it reads any module, also one that gives classes of pixels and none of an image."""
    passes: float = 1.0
    """Passes through the backbone for a score, one way; a gradient inside counts one more."""

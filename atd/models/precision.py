"""The least precision in which values that are compared or summed are kept."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32"]


def at_least_float32(values: Tensor) -> Tensor:
    """The values as float32; float64, for checks of an evaluation or of equality, stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))

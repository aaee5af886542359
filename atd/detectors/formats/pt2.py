"""A PyTorch program (.pt2), which `torch.export.load` reads."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from atd.detectors.formats.traced import Run, Traced

__all__ = ["write"]


def write(traced: Traced, file: Path) -> Run:
    """Writes the program and loads it again."""
    with warnings.catch_warnings():
        # Of weights that lie channels last; what is written is compared afterwards.
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(traced.program, file)
    loaded: Run = torch.export.load(file).module()
    return loaded

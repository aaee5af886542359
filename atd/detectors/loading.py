"""A detector of any kind, from its folder or by the name of one's own code."""

from __future__ import annotations

import os

import torch

from atd.detectors.base import Detector
from atd.detectors.imported import import_detector

__all__ = ["load"]


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Detector:
    """Loads a detector of any kind, in evaluation mode.

    Args:
        path: A detector folder; `OWNER/NAME` of a repository on the Hugging Face Hub; or
            `import:MODULE:CALLABLE`, which runs that code.
        device: Where to put it.

    Returns:
        The detector.

    Raises:
        UserError: There is no such detector, or it is damaged.
    """
    if isinstance(path, str) and path.startswith("import:"):
        return import_detector(path).to(device)
    return Detector.from_pretrained(path, device)

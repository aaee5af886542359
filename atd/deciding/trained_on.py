"""Whether a person calibrates with the images that a detector was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["overlap"]


def overlap(training: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """What a person should know where images lie in, or around, a folder of the training.

    Args:
        training: The detector's record of its options, which anyone may have written.
        names: Files, folders, or `-`, of which nothing is known.
    """
    data = training.get("data")
    source = data.get("id") if isinstance(data, Mapping) else None
    if not isinstance(source, str) or "\0" in source:
        return None
    parts = [part.strip().partition(":") for part in source.split(" + ")]
    folders = {path: _place(path) for kind, _, path in parts if kind == "folder"}
    for name in names:
        place = _place(name)
        for path, folder in folders.items():
            if name != "-" and (place.is_relative_to(folder) or folder.is_relative_to(place)):
                return (
                    f"--id {name}: the detector was trained with data.id=folder:{path}; the "
                    "intervals hold for images like those given only if it was not trained on "
                    "these: name new ones, or those that were held out"
                )
    return None


def _place(path: str) -> Path:
    return Path(os.path.realpath(path))

"""Finished scores on disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import inspect
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from atd.evaluation.files import replacing

if TYPE_CHECKING:
    from atd.evaluation.scoring import Images

__all__ = ["entry", "fingerprint", "read", "write"]


def entry(folder: Path, detector: nn.Module, images: Images, attack: str) -> Path:
    """The file that holds the scores of a detector on a set under an attack.

    Its name is a function of everything the scores depend on: weights, architecture, attack
    settings, the attack's own source code, and the set's name, size and a sample of its pixels.

    Args:
        folder: The cache folder.
        detector: The attacked module.
        images: The image set.
        attack: Settings of the attack, as text.

    Returns:
        A path that may or may not exist yet.
    """
    import atd.attacks.pgd

    digest = hashlib.sha256(fingerprint(detector).encode())
    digest.update(inspect.getsource(atd.attacks.pgd).encode())
    digest.update(f"{attack} {images.name} {len(images)}".encode())
    sample = torch.linspace(0, len(images) - 1, min(64, len(images))).round().long()
    pixels = images.fetch(sample)
    digest.update(str(tuple(pixels.shape)).encode() + pixels.numpy().tobytes())
    readable = re.sub(r"[^\w.-]+", "-", images.name).strip("-.") or "set"
    return folder / f"{readable}-{digest.hexdigest()[:20]}.npz"


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of a module's structure, parameters and buffers, as hexadecimal text."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read(file: Path | None) -> dict[str, Any] | None:
    """The stored arrays, or None where there are none or the file is damaged."""
    if file is None or not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def write(file: Path, arrays: dict[str, Any]) -> None:
    """Stores arrays under a temporary name first, so that a file is whole or absent."""
    with replacing(file) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)

"""Scores on disk as they are found, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atd.data.images import ImageSet, content_of
from atd.detectors.base import Detector
from atd.evaluation.worst import Attack, join_parts
from atd.files import replacing

if TYPE_CHECKING:
    from atd.evaluation.jobs import Images

__all__ = ["Arrays", "ScoreStore", "are_positions", "attack_question", "code_digest", "fingerprint"]

Arrays = dict[str, Any]

_EACH = ("index", "clean", "attacked", "zero_gradient", "broken", "member")
_EXAMPLES = ("example_index", "example_value", "example_clean", "example_attacked")

_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, TypeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises on files that are no archives of arrays, or were encrypted."""


class ScoreStore:
    """The scores of one detector on one set under one attack.

    A finished set is one file. Until then each batch is a file of its own, named by its first
    image, so that any number of processes can write and any number can go on from there.

    Args:
        file: The file of the finished set; None keeps nothing.
        images: Size of the set, which a file is checked against.
        is_whole: Whether arrays are what was found on images of a set of that size.
        join: Joins what was found on several batches, in the order of the positions (`index`).
    """

    def __init__(
        self,
        file: Path | None,
        images: int = 0,
        *,
        is_whole: Callable[[Arrays, int], bool] | None = None,
        join: Callable[[Sequence[Arrays]], Arrays] = join_parts,
    ) -> None:
        self.file, self.images, self.join = file, images, join
        self.is_whole = is_whole or _is_whole
        self.parts = None if file is None else file.with_suffix(".parts")

    @classmethod
    def of(cls, folder: Path | None, images: Images, *question: bytes, **how: Any) -> ScoreStore:
        """The store named by everything the scores depend on.

        Args:
            folder: Where the stores lie; None keeps nothing.
            images: The set; its name, its size and all of its pixels count.
            *question: Detector, and what is done to each image.
            **how: `is_whole` and `join`.
        """
        if folder is None:
            return cls(None, **how)
        digest = hashlib.sha256()
        for part in question:
            digest.update(len(part).to_bytes(8, "big") + part)
        digest.update(f"{images.name} {len(images)}".encode())
        digest.update(images.content if isinstance(images, ImageSet) else content_of(images))
        readable = re.sub(r"[^\w.-]+", "-", images.name).strip("-.")[:80] or "set"
        return cls(folder / f"{readable}-{digest.hexdigest()[:20]}.npz", len(images), **how)

    def read(self) -> Arrays | None:
        """What is there already, or None; damaged files count as absent and are made again."""
        if self.file is None or self.parts is None:
            return None
        whole = self._read(self.file)
        if whole is not None:
            return whole
        parts = [self._read(file) for file in sorted(self.parts.glob("*.npz"))]
        present = [part for part in parts if part is not None]
        return self.join(_disjoint(present)) if present else None

    def _read(self, file: Path) -> Arrays | None:
        found = _read(file)
        return found if found is not None and self.is_whole(found, self.images) else None

    def add(self, part: Arrays) -> None:
        """Keeps one batch."""
        if self.parts is not None:
            _write(self.parts / f"{int(part['index'][0]):09d}.npz", part)

    def finish(self, whole: Arrays) -> None:
        """Keeps the finished set and drops its batches, where there are any."""
        if self.file is not None and self.parts is not None and self.parts.exists():
            _write(self.file, whole)
            shutil.rmtree(self.parts, ignore_errors=True)


def attack_question(attack: Attack, direction: int) -> bytes:
    """Everything that attacked scores depend on beside detector and images; code too."""
    digest = hashlib.sha256(code_digest())
    numbers = (attack.epsilon, attack.norm, attack.seed, attack.draws, attack.stop, direction)
    digest.update(" ".join(map(str, (*attack.members, *numbers))).encode())
    if attack.targets is not None:
        digest.update(_bytes(attack.targets))
    return digest.digest()


def fingerprint(module: Detector) -> str:
    """SHA-256 of all that a detector's scores depend on, as hexadecimal text.

    That is its kind, options and layers, the code that they run, its parameters and buffers.
    """
    digest = hashlib.sha256(module.identity())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()


@cache
def code_digest() -> bytes:
    """The code that scores depend on: an attack that was changed must run again."""
    import atd.attacks
    from atd.evaluation import subject, worst

    files = sorted(Path(atd.attacks.__file__).parent.rglob("*.py"))
    files += [Path(str(module.__file__)) for module in (subject, worst)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


def _disjoint(parts: list[Arrays]) -> list[Arrays]:
    """Parts without images that an earlier part has: batch sizes may differ between runs."""
    seen: set[int] = set()
    kept = []
    for part in parts:
        positions = set(part["index"].tolist())
        if not positions & seen:
            kept.append(part)
            seen |= positions
    return kept


def _read(file: Path) -> Arrays | None:
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except _DAMAGE:
        return None


def _is_whole(arrays: Arrays, images: int) -> bool:
    """Whether a file holds what `attack_batch` makes of a set of so many images."""
    if set(arrays) != {*_EACH, *_EXAMPLES}:
        return False
    for names in (_EACH, _EXAMPLES):
        index = arrays[names[0]]
        if not are_positions(index, images):
            return False
        if any(arrays[name].ndim < 1 or len(arrays[name]) != len(index) for name in names):
            return False
    finite = bool(np.isfinite(arrays["clean"]).all() and np.isfinite(arrays["attacked"]).all())
    return finite and arrays["example_clean"].ndim == arrays["example_attacked"].ndim == 4


def are_positions(index: np.ndarray[Any, Any], images: int) -> bool:
    """Whether an array holds different positions in a set of so many images."""
    if index.ndim != 1 or index.dtype.kind != "i" or len(np.unique(index)) != len(index):
        return False
    return not len(index) or bool(0 <= index.min() <= index.max() < images)


def _write(file: Path, arrays: Arrays) -> None:
    with replacing(file) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)

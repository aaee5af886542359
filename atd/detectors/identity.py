"""What tells one detector from another beside its tensors: code, and the content of objects."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["content_digest", "house_digest", "source_digest"]

_PASSING = ("training", "_compiled_call_impl")
"""Attributes of modules that change nothing in what a deployed one computes."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)

Seen = dict[int, tuple[int, Any]]
"""Objects by their id, which is theirs alone only while they live, with their numbers."""


@functools.cache
def house_digest() -> bytes:
    """SHA-256 of the code that every detector of ours stands on."""
    import atd

    root = Path(str(atd.__file__)).parent
    files = [root / "inference.py"]
    for room in ("detectors", "backbones"):
        files += sorted((root / room).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


@functools.cache
def source_digest(kind: Any) -> bytes:
    """SHA-256 of the file in which a class is defined; of its name where there is none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).digest()
    except (OSError, TypeError):
        return hashlib.sha256(repr(kind).encode()).digest()


def content_digest(value: Any) -> bytes:
    """SHA-256 of all that somebody else's object holds, however deep, and of its code.

    An object that cannot be looked into is only equal to itself, within this process.

    Args:
        value: Any object.
    """
    digest = hashlib.sha256()
    _feed(value, digest, {})
    return digest.digest()


def _feed(value: Any, digest: hashlib._Hash, seen: Seen) -> None:
    digest.update(type(value).__qualname__.encode())
    if isinstance(value, _PLAIN):
        digest.update(repr(value).encode())
        return
    if id(value) in seen:  # the same object again, or a circle
        digest.update(str(seen[id(value)][0]).encode())
        return
    seen[id(value)] = len(seen), value
    match value:
        case Tensor() | np.ndarray():
            digest.update(_bytes(torch.as_tensor(value)))
        case list() | tuple():
            for item in value:
                _feed(item, digest, seen)
        case dict():
            _feed([part for item in value.items() for part in item], digest, seen)
        case set() | frozenset():
            digest.update(b"".join(sorted(content_digest(item) for item in value)))
        case types.FunctionType() | types.MethodType() | types.CodeType() | functools.partial():
            _feed_code(value, digest, seen)
        case _:
            _feed_object(value, digest, seen)


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return (
        f"{tuple(tensor.shape)}{tensor.dtype}".encode() + flat.view(torch.uint8).numpy().tobytes()
    )


def _feed_code(value: Any, digest: hashlib._Hash, seen: Seen) -> None:
    parts: tuple[Any, ...]
    if isinstance(value, types.MethodType):
        parts = (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
    elif isinstance(value, types.CodeType):
        parts = (value.co_code, value.co_names, value.co_consts)
    else:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        named = [value.__globals__.get(name) for name in value.__code__.co_names]
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells, named)
    _feed(parts, digest, seen)


def _feed_object(value: Any, digest: hashlib._Hash, seen: Seen) -> None:
    if isinstance(value, type):
        digest.update(value.__qualname__.encode() + source_digest(value))
        return
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        digest.update(value.__name__.encode())
        return
    digest.update(source_digest(value.__class__))
    if not hasattr(value, "__dict__"):  # nothing can be seen of it: never take it for another
        digest.update(f"{os.getpid()} {id(value)}".encode())
        return
    passing = _PASSING if isinstance(value, nn.Module) else ()
    _feed({key: held for key, held in vars(value).items() if key not in passing}, digest, seen)

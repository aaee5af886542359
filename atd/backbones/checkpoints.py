"""Reads tensors from weight files as people have them; nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atd.errors import UserError, first_line, printable
from atd.regular_files import read_regular, require_regular

__all__ = [
    "Table",
    "head_left_behind",
    "is_detector_folder",
    "read_checkpoint",
    "read_description",
]

_PREFERRED = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema",
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "network",
    "backbone",
)
"""Names under which training scripts nest a network, averaged weights first."""

_NO_NETWORK = ("optim", "sched", "scaler", "amp", "loss", "criterion", "rng")
_LARGEST_CONFIG = 16 << 20
_NESTING = 4

_OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; run `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file (Keras); save a PyTorch state dict"),
    (b"\x93NUMPY", "a NumPy array; save a PyTorch state dict"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"\x08", "no PyTorch file (perhaps ONNX); save the network's state dict"),
)

_REMEDY = "where it was made, write torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True, slots=True)
class Table:
    """Named tensors of a file.

    Attributes:
        tensors: The tensors.
        where: Under which of the file's keys they lie; empty for the top.
        rank: How usual that key is for the network that is meant; smaller is more usual.
    """

    tensors: dict[str, Tensor]
    where: str = ""
    rank: int = 0


def read_checkpoint(path: Path) -> list[Table]:
    """Finds the named tensors of a file or of a detector folder.

    Args:
        path: `.safetensors`, a PyTorch file that holds tensors and plain values only, or the
            folder of a detector.

    Returns:
        Every table of tensors in it.

    Raises:
        UserError: It is missing, no such file, damaged, or holds objects that are code.
    """
    if os.path.isdir(path):
        return [Table(_detector_tensors(path))]
    require_regular(path)
    head, size = _first_bytes(path), path.stat().st_size
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return [Table(_read_safetensors(path))]
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        content = _read_torch(path, mapped=True)
    elif head.startswith(b"\x80"):
        content = _read_torch(path, mapped=False)
    else:
        raise UserError(f"{path}: {_what_else(head, size)}")
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise UserError(f"{path}: holds a {kind}, not a state dict; {_REMEDY}")
    tables = list(_tables(content, "", 0))
    if not tables:
        raise UserError(f"{path}: holds no tensors with names; {_REMEDY}")
    return tables


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise UserError(f"backbone.weights={path}: cannot be read ({error.strerror})") from None


def _what_else(head: bytes, size: int) -> str:
    if not size:
        return "an empty file; copy or download it again"
    if head.lstrip()[:1] == b"<":
        return "a web page (HTML), not weights; the download gave a page instead of the file"
    for magic, words in _OTHERS:
        if head.startswith(magic):
            return words
    return f"neither a PyTorch nor a safetensors file (it begins with {head[:8]!r})"


def _check_archive(path: Path) -> None:
    """Refuses archives that are damaged, no PyTorch file, or would grow when unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            whole = archive.testzip() is None if stored else True
    except Exception:  # hostile bytes raise whatever they like
        whole, entries, stored = False, [], True
    if not whole:
        raise UserError(
            f"{path}: is cut off or damaged ({path.stat().st_size} bytes); copy or download it "
            "again"
        )
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise UserError(f"{path}: a TorchScript archive, which holds code; {_REMEDY}")
    if not any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{path}: a zip archive, but not of PyTorch")
    if not stored:
        raise UserError(f"{path}: a compressed archive, which PyTorch does not write; {_REMEDY}")


def _harmless() -> list[Any]:
    """Plain data that training scripts put beside the weights."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    types = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "bool")]
    names = [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *types, *names]


def _read_torch(path: Path, mapped: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except Exception as error:  # hostile bytes raise whatever they like
        if found := re.search(r"GLOBAL (\S+)|[Cc]lass (\S+)", str(error)):
            raise UserError(
                f"{path}: holds Python objects besides tensors ({found[1] or found[2]:.80}); such "
                f"a pickle can run code and is not loaded; {_REMEDY}"
            ) from None
        reason = str(error).partition("WeightsUnpickler error:")[2].strip() or first_line(error)
        raise UserError(
            f"{path}: cannot be read, it is damaged or not a PyTorch file "
            f"({printable(reason.splitlines()[0], 120)}); copy or download it again"
        ) from None


def _tables(content: Mapping[Any, Any], where: str, depth: int) -> Iterator[Table]:
    """Every mapping with named tensors."""
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and len(key) < 500
    }
    if tensors:
        last = where.rpartition(".")[2]
        rank = _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED)
        yield Table(tensors, where, rank)
    for key, value in content.items():
        inner = isinstance(key, str) and isinstance(value, Mapping) and depth < _NESTING
        if inner and not any(word in key.lower() for word in _NO_NETWORK):
            yield from _tables(value, f"{where}.{key}".lstrip("."), depth + 1)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file, it is cut off or damaged "
            f"({first_line(error)}); copy or download it again"
        ) from None


def is_detector_folder(path: Path) -> bool:
    """Whether a path is a folder as a detector is saved in."""
    return os.path.isfile(path / "config.json") and os.path.isfile(path / "model.safetensors")


def _detector_tensors(folder: Path) -> dict[str, Tensor]:
    digest, file = read_description(folder).get("weights_sha256"), folder / "model.safetensors"
    tensors = _read_safetensors(file)
    if digest and hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise UserError(
            f"{file}: damaged: its SHA-256 is not the one in config.json; copy the folder again"
        )
    return {key: value for key, value in tensors.items() if key.startswith("backbone.")}


def read_description(folder: Path) -> dict[str, Any]:
    """What the `config.json` of a saved detector, of any kind and format, says.

    Args:
        folder: A detector folder.

    Returns:
        Its contents, with the options of its backbone under `backbone`.

    Raises:
        UserError: The folder is no detector's, or the detector has no backbone.
    """
    if not is_detector_folder(folder):
        inner = folder / "detector"
        hint = f"; did you mean {inner}?" if is_detector_folder(inner) else ""
        raise UserError(
            f"backbone.weights={folder}: a folder, but not a detector's (config.json and "
            f"model.safetensors){hint}"
        )
    file = folder / "config.json"
    try:
        values = json.loads(read_regular(file, _LARGEST_CONFIG))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read: {first_line(error)}") from None
    if not isinstance(values, dict) or not isinstance(values.get("backbone"), dict | None):
        raise UserError(f"{file}: not the description of a detector")
    if values.get("backbone") is None:
        raise UserError(f"{folder}: this detector has no backbone (it reads pixels)")
    return values


def head_left_behind(kind: Any, training: Any) -> bool:
    """Whether the class head of a stored network is that of features it had before.

    ATD's training may change the network (`atd.finetune`), but never trains its head.

    Args:
        kind: The detector's kind.
        training: The options it was trained with, as its `config.json` tells them.
    """
    options = training.get("atd") if isinstance(training, Mapping) else None
    return kind == "atd" and isinstance(options, Mapping) and options.get("finetune") is True

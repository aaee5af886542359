"""Training state on disk: one safetensors file, written atomically, never a pickle."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atd.errors import UserError

__all__ = ["load_state", "save_state"]

_TENSOR = "__tensor__"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts and lists of tensors and plain values.

    The file appears under its name only when it is complete, so a kill, a full disk or a
    power cut leaves the previous one in place.

    Args:
        path: The file.
        state: Tensors, numbers, strings, booleans and None in dicts (string or integer keys)
            and lists.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_split(state, tensors))
    metadata = {"state": skeleton, "crc32": _checksum(skeleton, tensors)}
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"{path}: the training state cannot be written ({error}); the last good one is kept, "
            "free some space and run the same command again"
        ) from None


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote.

    Args:
        path: The file.

    Returns:
        The state, tensors on the CPU.

    Raises:
        UserError: The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata["crc32"] != _checksum(metadata["state"], tensors):
            raise ValueError("its checksum is wrong")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: damaged training state ({error}); delete it to train this stage again"
        ) from None
    state = _join(json.loads(metadata["state"]), tensors)
    assert isinstance(state, dict)
    return state


def _checksum(skeleton: str, tensors: dict[str, Tensor]) -> str:
    """CRC-32 of all content: safetensors itself would not notice a flipped bit of a weight."""
    crc = zlib.crc32(skeleton.encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _split(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        name = str(len(tensors))
        tensors[name] = node.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(node, dict):
        pairs = [[key, _split(value, tensors)] for key, value in node.items()]
        return {"__dict__": pairs}
    if isinstance(node, list | tuple):
        return [_split(value, tensors) for value in node]
    return node


def _join(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_join(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if _TENSOR in node:
        return tensors[node[_TENSOR]].to(memory_format=torch.preserve_format)
    return {key: _join(value, tensors) for key, value in node["__dict__"]}

"""Training state on disk: safetensors files, written atomically, the last few kept, no pickle.

The newest state of a stage is `STAGE.safetensors`, the ones before it `STAGE.1.safetensors`,
`STAGE.2.safetensors` and so on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atd.errors import UserError
from atd.files import replacing, sync

__all__ = ["load_newest", "load_state", "save_state", "state_file"]

_TENSOR = "__tensor__"


def state_file(folder: Path, stage: str) -> Path:
    """Where the newest state of a stage lies."""
    return folder / f"{stage}.safetensors"


def save_state(path: Path, state: dict[str, Any], keep: int = 1) -> None:
    """Writes nested dicts and lists of tensors and plain values.

    The file appears under its name only when it is complete. A kill, a full disk or a power cut
    at any instant leaves a complete state under a name that `load_newest` looks for.

    Args:
        path: The file.
        state: Tensors, numbers, strings, booleans and None in dicts (string or integer keys)
            and lists.
        keep: How many states to keep, this one included.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_split(state, tensors))
    metadata = {"state": skeleton, "crc32": _checksum(skeleton, tensors)}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
            sync(temporary)  # on a full disk the earlier states stay where they are
            _make_room(path, keep)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: the training state cannot be written ({error}); the last good one is kept, "
            "free some space and run the same command again"
        ) from None


def _make_room(path: Path, keep: int) -> None:
    """Moves earlier states one number up, the last of them first, as far as the first gap."""
    names = [path.with_suffix(f".{number}.safetensors") for number in range(1, keep)]
    slots = [path, *names]
    gap = next((at for at, slot in enumerate(slots) if not slot.exists()), len(slots) - 1)
    for at in range(gap, 0, -1):
        os.replace(slots[at - 1], slots[at])


def load_newest(
    folder: Path,
    stage: str,
    notice: Callable[[str], None],
    is_useful: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> tuple[Path, dict[str, Any]] | None:
    """Reads the newest good state of a stage; a damaged newer one is set aside.

    It is renamed to `NAME.damaged`, so that it never takes the place of a good one.

    Args:
        folder: The state folder.
        stage: The stage.
        notice: Is told, in one line, about a damaged state that is passed over.
        is_useful: Whether a good state is to be taken; the next one is looked at otherwise.

    Returns:
        The file and its state, or None where there is none.

    Raises:
        UserError: There are states and all are damaged; they stay where they are.
    """
    first = state_file(folder, stage)
    files = _states(first)
    problems: dict[Path, str] = {}
    passed_over = 0
    for file in files:
        try:
            state = load_state(file)
        except UserError as error:
            problems[file] = str(error)
            continue
        if not is_useful(state):
            passed_over += 1
            continue
        for damaged, problem in problems.items():
            _set_aside(damaged)
            notice(f"{problem.split(';')[0]}; it was set aside, and {file.name} is used")
        if file != first and not problems and not passed_over:
            notice(f"{first}: missing training state; the one before it, {file.name}, is used")
        return file, state
    if len(problems) > 1:
        raise UserError(
            f"{first}: all {len(problems)} training states are damaged; delete them to train this "
            "stage again"
        )
    if problems:
        raise UserError(next(iter(problems.values())))
    return None


def _states(first: Path) -> list[Path]:
    """The states of a stage that exist, newest first."""
    pattern = re.compile(re.escape(first.stem) + r"\.(\d+)\.safetensors")
    numbered = {}
    for file in first.parent.glob(f"{first.stem}.*.safetensors"):
        if match := pattern.fullmatch(file.name):
            numbered[int(match[1])] = file
    return [first] * first.exists() + [numbered[number] for number in sorted(numbered)]


def _set_aside(file: Path) -> None:
    # A folder that cannot be changed fails at the next save, with a message of its own.
    with contextlib.suppress(OSError):
        os.replace(file, file.with_name(file.name + ".damaged"))


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

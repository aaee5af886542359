"""Weights on disk: compared with what a detector asks for before a network is built for them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from atd.backbones.base import Backbone
from atd.errors import UserError, first_line
from atd.regular_files import require_regular

__all__ = [
    "Stored",
    "Weights",
    "bounded",
    "is_double",
    "open_weights",
    "require_fit",
    "require_sound",
    "stored_in_half",
]

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


_LARGE = 1024
"""Numbers in a tensor from which storing it in float16 is worth while."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file's header says of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    """None for a type that no detector uses."""


@dataclass(frozen=True)
class Weights:
    """An open safetensors file; only its header has been read."""

    file: Path
    header: Mapping[str, Stored]
    _handle: Any
    _stream: BufferedReader

    @property
    def numbers(self) -> int:
        """How many numbers the file holds."""
        return sum(torch.Size(item.shape).numel() for item in self.header.values())

    def read(self, name: str) -> Tensor:
        """A tensor of the file."""
        tensor: Tensor = self._handle.get_tensor(name)
        return tensor

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole file."""
        self._stream.seek(0)
        return hashlib.file_digest(self._stream, "sha256").hexdigest()


@contextmanager
def open_weights(file: Path) -> Iterator[Weights]:
    """Opens a safetensors file and reads its header, which the library checks.

    Args:
        file: The file.

    Yields:
        The open file.

    Raises:
        UserError: It is missing, unreadable, no regular file or damaged.
    """
    from safetensors import SafetensorError, safe_open

    require_regular(file)
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(file.open("rb"))
            handle = stack.enter_context(safe_open(file, framework="pt"))
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{file}: cannot be read: {first_line(error)}") from None
        slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
        header = {
            name: Stored(tuple(item.get_shape()), _TYPES.get(item.get_dtype()))
            for name, item in slices.items()
        }
        yield Weights(file, header, handle, stream)


@contextmanager
def bounded(numbers: int) -> Iterator[None]:
    """Stops building a network that is far larger than its weights, as soon as that is known.

    Args:
        numbers: How many numbers the weights hold.

    Raises:
        UserError: The parameters that are made inside are more than twice as many.
    """
    thread, made = threading.get_ident(), 0

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal made
        if parameter is None or threading.get_ident() != thread:
            return
        made += parameter.numel()
        if made > 2 * numbers + 1000:  # a network may replace some of its parameters
            raise UserError(f"asks for a network far larger than the {numbers} numbers stored")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def require_fit(weights: Weights, skeleton: nn.Module) -> None:
    """Refuses weights of another shape or type than a module's.

    Args:
        weights: The file.
        skeleton: The module, which may lie on the meta device. A dimension of size 0 in it takes
            any size but 0: only a fit knows it.

    Raises:
        UserError: A tensor is missing, is too many, or has another shape or type.
    """
    wanted = skeleton.state_dict()
    refusal = f"{weights.file}: does not fit config.json: "
    for name in (*wanted, *weights.header):
        if name not in weights.header:
            raise UserError(f"{refusal}it lacks {name}")
        if name not in wanted:
            raise UserError(f"{refusal}it holds {ascii(name)[:80]}, which that detector has not")
        tensor, stored = wanted[name], weights.header[name]
        same_rank = len(stored.shape) == tensor.ndim
        pairs = zip(stored.shape, tensor.shape, strict=False)
        if not same_rank or not all(s > 0 and w in (0, s) for s, w in pairs):
            shape = tuple(tensor.shape)
            raise UserError(f"{refusal}{name} has shape {stored.shape} in place of {shape}")
    double = is_double(weights.header)
    for name, tensor in wanted.items():
        dtype = torch.float64 if double and tensor.is_floating_point() else tensor.dtype
        found = weights.header[name].dtype
        if found != dtype and not (found == torch.float16 and stored_in_half(tensor)):
            raise UserError(f"{refusal}{name} is of type {found} in place of {dtype}")


def stored_in_half(tensor: Tensor) -> bool:
    """Whether a tensor may be stored in float16: the large ones, not statistics and biases."""
    return tensor.dtype == torch.float32 and tensor.ndim > 1 and tensor.numel() >= _LARGE


def is_double(header: Mapping[str, Stored]) -> bool:
    """Whether a detector was saved in float64."""
    floats = {item.dtype for item in header.values() if item.dtype and item.dtype.is_floating_point}
    return floats == {torch.float64}


def require_sound(module: nn.Module, file: Path) -> None:
    """Refuses weights that no training gives: not finite, or deviations that are not positive.

    Args:
        module: The loaded module.
        file: Where its weights lie, for messages.

    Raises:
        UserError: The weights are damaged.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{file}: damaged: {name} holds values that are not finite")
    for name, part in module.named_modules():
        variance = getattr(part, "running_var", None)
        if isinstance(variance, Tensor) and not (variance >= 0).all():
            raise UserError(f"{file}: damaged: {name}.running_var holds negative values")
        if isinstance(part, Backbone) and not (part.std > 0).all():
            raise UserError(f"{file}: damaged: {name}.std holds values that are not positive")

"""torch.compile for the passes that attacks repeat."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from atd.errors import UserError, first_line

__all__ = ["compiled_function", "compiled_logits"]

Function = Callable[[Tensor], Tensor]


def compiled_function(function: Function, *, cuda_graphs: bool = False) -> Function:
    """The function compiled; what the compiler lacks is said in one line.

    Args:
        function: Maps a tensor to a tensor.
        cuda_graphs: On a GPU, replay whole passes. For inputs of one shape.

    Returns:
        The same function but for rounding. Its first calls take a minute.

    Raises:
        UserError: When called, if torch cannot compile it here.
    """
    replayed = cuda_graphs and torch.cuda.is_available()
    inner = torch.compile(function, mode="reduce-overhead" if replayed else "default")

    def checked(images: Tensor) -> Tensor:
        try:
            # What a graph returns is overwritten when it is replayed.
            return inner(images).clone() if replayed else inner(images)
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
            if "ompil" not in f"{type(error).__name__} {error}":
                raise
            raise UserError(
                f"run.compile: torch.compile failed ({first_line(error)}); set run.compile=false, "
                "or install a C++ compiler"
            ) from None

    return checked


@contextlib.contextmanager
def compiled_logits(detector: nn.Module) -> Iterator[None]:
    """Within it, the `logits` of a detector are compiled; a detector without any stays as it is.

    Batches may differ in size: the second size makes torch compile once more, for any size.
    """
    own = getattr(detector, "logits", None)
    if own is None:
        yield
        return
    vars(detector)["logits"] = compiled_function(own)
    try:
        yield
    finally:
        del vars(detector)["logits"]

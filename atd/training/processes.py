"""One process or many: the few things that training asks of Accelerate.

Gradients are averaged by one flat all-reduce after the backward pass instead of by a
DistributedDataParallel wrapper. HAT's loss runs the network forward several times before one
backward pass, ATD trains two networks against each other and attacks both in between; plain
modules keep all that simple, and next to the attack's passes one all-reduce costs little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from atd.errors import UserError

__all__ = ["Processes"]


class Processes:
    """This process among all that work on a run.

    Args:
        device: `auto`, `cpu` or `cuda` (`run.device`).

    Raises:
        UserError: CUDA was asked for and is not there.
    """

    def __init__(self, device: str = "auto") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("run.device=cuda: no CUDA device is available; use run.device=cpu")
        self.accelerator = Accelerator(cpu=device == "cpu")
        self.device = self.accelerator.device
        self.rank = self.accelerator.process_index
        self.count = self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process

    def share(self, batch_size: int, key: str) -> slice:
        """This process's part of a global batch.

        Args:
            batch_size: Images per step over all processes.
            key: The option it comes from, for the message.

        Returns:
            The slice of the global batch that this process works on.

        Raises:
            UserError: The batch does not divide evenly.
        """
        if batch_size % self.count:
            raise UserError(
                f"{key}={batch_size} does not divide among {self.count} processes; "
                f"use a multiple of {self.count}"
            )
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces each gradient by its mean over processes; all must hold the same ones."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self.accelerator.reduce(flat, reduction="mean")
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Means over processes of scalars that each process holds."""
        if not values:
            return {}
        stacked = torch.stack([value.detach().double().cpu() for value in values.values()])
        if self.count > 1:
            stacked = self.accelerator.reduce(stacked.to(self.device), reduction="mean").cpu()
        return dict(zip(values, stacked.tolist(), strict=True))

    def whole_batch(self, part: Tensor) -> Tensor:
        """The parts (n, ...) of all processes as one batch; gradients flow to this one's only.

        Statistics of a batch are not means of its parts' statistics. A loss of the whole batch,
        times the number of processes, gets its true gradient from `average_gradients`.
        """
        if self.count == 1:
            return part
        parts = list(self.accelerator.gather(part.detach()).chunk(self.count))
        parts[self.rank] = part
        return torch.cat(parts)

    def average_buffers(self, module: torch.nn.Module) -> None:
        """Makes floating-point buffers (running statistics) equal everywhere, by their mean."""
        if self.count == 1:
            return
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(self.accelerator.reduce(buffer, reduction="mean"))

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all get the same answer."""
        if self.count == 1:
            return flag
        total = self.accelerator.reduce(torch.tensor(float(flag), device=self.device))
        return bool(total > 0)

    def gather(self, values: Sequence[Any]) -> list[Any]:
        """The values of all processes in rank order, on every process."""
        return list(values) if self.count == 1 else list(gather_object(list(values)))

    def agree(self, value: Any) -> Any:
        """The main process's value, on every process."""
        return value if self.count == 1 else broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Returns once every process has come here."""
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Ends the process group; call it last."""
        if self.count > 1:
            self.wait()
            self.accelerator.end_training()

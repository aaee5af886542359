"""One process or many: the few things that training asks of Accelerate.

Gradients are averaged by one flat all-reduce after the backward pass instead of by a
DistributedDataParallel wrapper. HAT's loss runs the network forward several times before one
backward pass, ATD trains two networks against each other and attacks both in between; plain
modules keep all that simple, and next to the attack's passes one all-reduce costs little.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from atd.errors import UserError
from atd.launcher import ignored_options, refuse_unknown_engines
from atd.training.contact import in_contact, not_forever
from atd.training.stopwatch import exchanging

__all__ = ["Processes", "micro_batches"]

Result = TypeVar("Result")

_GRACE = datetime.timedelta(seconds=10)
"""More than torch needs to give up, after twice the timeout, on a process that does not come."""


class Processes:
    """This process among all that work on a run.

    What networks need is exchanged by the device's own means (NCCL, gloo). Flags, scalars and
    objects always go from host to host over gloo: no step waits for a GPU to do its work, and the
    death of a process is noticed at once, where NCCL would wait.

    Args:
        device: `auto`, `cpu` or `cuda` (`run.device`).
        timeout_minutes: How long to wait in an exchange for a process that says nothing
            (`run.timeout_minutes`).

    Raises:
        UserError: CUDA was asked for and is not there, or a launcher asks for what is not here.
        LostContact: Another process did not come, or died meanwhile.
    """

    def __init__(self, device: str = "auto", timeout_minutes: float = 30.0) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("run.device=cuda: no CUDA device is available; use run.device=cpu")
        refuse_unknown_engines(os.environ)
        self._timeout = timeout = datetime.timedelta(minutes=timeout_minutes)
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        # Without a GPU, Accelerate takes several processes for as many runs unless it is told.
        no_gpu = self.count > 1 and not torch.cuda.is_available()
        self._hosts: Any = None
        self._neighbours: dict[int, Any] = {}
        place = "the start of the processes"
        with in_contact(self, lambda: place), not_forever(self, place, 2 * timeout + _GRACE):
            self.accelerator = Accelerator(
                cpu=device == "cpu" or no_gpu,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)],
            )
            self.rank = self.accelerator.process_index
            self.count = self.accelerator.num_processes
            if self.count > 1:
                self._hosts = dist.new_group(backend="gloo", timeout=timeout)
        self.device = self.accelerator.device
        self.is_main = self.accelerator.is_main_process
        for line in ignored_options(os.environ) if self.is_main else ():
            print(f"note: {line}", file=sys.stderr)

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

    def turns(self, count: int, size: int = 256) -> list[Tensor]:
        """This process's positions among `count`, in batches; a process may have none."""
        mine = torch.arange(count)[self.rank :: self.count]
        return list(mine.split(size)) if len(mine) else []

    def neighbours(self, span: int) -> Any:
        """The process group of `span` processes of neighbouring ranks, this one among them.

        None stands for all processes. All must ask for the same groups in the same order; asking
        again costs nothing.
        """
        if span == self.count:
            return None
        if span not in self._neighbours:
            self._neighbours[span], _ = dist.new_subgroups(span, timeout=self._timeout)
        return self._neighbours[span]

    def average_gradients(
        self, parameters: Iterable[Tensor], others: Iterable[Tensor] = ()
    ) -> None:
        """Replaces each gradient, and other tensors, by the mean over processes.

        All processes must hold the same ones. One exchange carries everything.
        """
        if self.count == 1:
            return
        own = [p.grad for p in parameters if p.grad is not None] + list(others)
        flat = torch.cat([tensor.flatten() for tensor in own])
        with exchanging:
            flat = self.accelerator.reduce(flat, reduction="mean")
        parts = flat.split([tensor.numel() for tensor in own])
        for tensor, part in zip(own, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes of values (...) that each holds: float64, on the CPU."""
        values = values.detach().double().cpu()
        if self.count > 1:
            with exchanging:
                dist.all_reduce(values, group=self._hosts)
        return values / self.count

    def whole_batch(self, part: Tensor) -> Tensor:
        """The parts (n, ...) of all processes as one batch; gradients flow to this one's only.

        Statistics of a batch are not means of its parts' statistics. A loss of the whole batch,
        times the number of processes, gets its true gradient from `average_gradients`.
        """
        if self.count == 1:
            return part
        with exchanging:
            parts = list(self.accelerator.gather(part.detach()).chunk(self.count))
        parts[self.rank] = part
        return torch.cat(parts)

    def require_equal(self, state: Any, stage: str, step: int) -> None:
        """Makes sure that all processes hold the same bits; every process must come here.

        Args:
            state: Tensors and plain values in nested dicts and lists, e.g. `Task.state()`.
            stage: The stage of training, for the message.
            step: Its step, for the message.

        Raises:
            UserError: A process holds something else than the first; raised on every process.
        """
        if self.count == 1:
            return
        first, *others = self.gather([dict(_digests(state))])
        for rank, other in enumerate(others, 1):
            if other == first:
                continue
            names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
            raise UserError(
                f"{stage}: at step {step} process {rank} differs from process 0 in {len(names)} of "
                f"{len(first)} values ({names[0]} for one), so nothing was saved; give all "
                "processes the same hardware and versions, and run the same command again to go "
                "on from the last saved step"
            )

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all get the same answer."""
        if self.count == 1:
            return flag
        total = torch.tensor(float(flag))
        with exchanging:
            dist.all_reduce(total, group=self._hosts)
        return bool(total > 0)

    def gather(self, values: Sequence[Any]) -> list[Any]:
        """The values of all processes in rank order, on every process."""
        if self.count == 1:
            return list(values)
        found: list[list[Any]] = [[] for _ in range(self.count)]
        with exchanging:
            dist.all_gather_object(found, list(values), group=self._hosts)
        return [value for part in found for value in part]

    def agree(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.count == 1:
            return value
        box = [value]
        with exchanging:
            dist.broadcast_object_list(box, src=0, group=self._hosts)
        return box[0]

    def on_main(self, work: Callable[[], Result]) -> Result | None:
        """Does something on the main process; the others wait until it is done.

        Args:
            work: What to do.

        Returns:
            Its result on the main process, None on the others.

        Raises:
            UserError: The work raised it; raised on every process.
        """
        found, problem = None, ""
        if self.is_main:
            try:
                found = work()
            except UserError as error:
                problem = str(error)
        if problem := self.agree(problem):
            raise UserError(problem)
        return found

    def wait(self) -> None:
        """Returns once every process has come here."""
        with exchanging:
            self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Ends the process group; call it last.

        Raises:
            LostContact: Another process died or hangs.
        """
        if self.count > 1:
            with in_contact(self, lambda: "the end of the processes"):
                self.wait()
                self.accelerator.end_training()


def micro_batches(share: slice, device_batch: int, key: str) -> int:
    """In how many micro-batches a process works off its share of a batch.

    Args:
        share: The process's part of a global batch.
        device_batch: Most images of the batch in one pass (`run.device_batch`); 0 = no limit.
        key: The option that the batch size comes from, for the message.

    Returns:
        The smallest number of micro-batches that keeps the limit.

    Raises:
        UserError: The share does not divide into that many equal micro-batches.
    """
    size = share.stop - share.start
    if not device_batch:
        return 1
    count = -(-size // device_batch)
    if size % count:
        fitting = max(part for part in range(1, device_batch + 1) if size % part == 0)
        raise UserError(
            f"run.device_batch={device_batch}: the {size} images that each process has of "
            f"{key} do not divide into {count} equal micro-batches; use run.device_batch={fitting}"
        )
    return count


def _digests(state: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A short digest of every value in nested dicts and lists."""
    if isinstance(state, dict | list | tuple):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _digests(value, f"{name}.{key}" if name else str(key))
        return
    if isinstance(state, Tensor):
        digest = hashlib.sha256(f"{state.dtype} {tuple(state.shape)}".encode())
        digest.update(state.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    else:
        digest = hashlib.sha256(repr(state).encode())
    yield name, digest.hexdigest()[:16]

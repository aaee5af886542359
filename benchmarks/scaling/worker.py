"""One process of a team: waits for an order, does it, and tells how long it took.

Started by torchrun; orders and answers are lines of JSON on a local connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed

from atd.training.processes import Processes
from benchmarks.scaling.tasks import Work, WorkSize

__all__ = ["Exchanges", "answer", "main"]

_REPEATS = 5


@dataclass
class Exchanges:
    """What a process exchanges with the others.

    Attributes:
        calls: Collective operations.
        bytes: Size of what this process gave.
        seconds: Time spent in them, waiting for the others included.
    """

    calls: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Within it, collective operations of tensors are counted."""
        with contextlib.ExitStack() as stack:
            for name in ("all_reduce", "all_gather"):
                wrapped = self._counting(
                    getattr(distributed, name), given=int(name != "all_reduce")
                )
                stack.enter_context(mock.patch.object(distributed, name, wrapped))
            yield

    def _counting(self, collective: Callable[..., Any], given: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            since = time.perf_counter()
            result = collective(*arguments, **options)
            self.seconds += time.perf_counter() - since
            tensor = arguments[given] if len(arguments) > given else None
            self.bytes += tensor.nbytes if isinstance(tensor, Tensor) else 0
            self.calls += 1
            return result

        return call


def answer(work: Work, name: str) -> dict[str, Any]:
    """Does a piece of work once.

    Args:
        work: The work.
        name: `hat`, `atd`, `evaluation`, or `reduce-hat` and `reduce-atd` for nothing but the
            averaging of a step's gradients.

    Returns:
        Its `seconds`, seconds of `cpu`, the `images`, and what was exchanged.
    """
    kind, _, of = name.partition("-")
    if kind == "reduce":
        return _reduce(work, of)
    exchanges = Exchanges()
    work.processes.wait()
    since, spent = time.perf_counter(), time.process_time()
    with exchanges.counted():
        images = work.do(name)
    return {
        "seconds": time.perf_counter() - since,
        "cpu": time.process_time() - spent,
        "images": images,
        "exchanges": dataclasses.asdict(exchanges),
    }


def _reduce(work: Work, name: str) -> dict[str, Any]:
    """Averages gradients of the real sizes, with nobody late."""
    groups = work.trained(name)
    for parameter in (parameter for group in groups for parameter in group):
        parameter.grad = torch.zeros_like(parameter)
    seconds = []
    for _ in range(_REPEATS):
        work.processes.wait()
        since = time.perf_counter()
        for group in groups:
            work.processes.average_gradients(group)
        seconds.append(time.perf_counter() - since)
    size = sum(parameter.nbytes for group in groups for parameter in group)
    return {"seconds": sorted(seconds)[_REPEATS // 2], "bytes": size}


def main() -> None:
    """Serves orders until the connection closes."""
    port, size = int(sys.argv[1]), WorkSize(**json.loads(sys.argv[2]))
    torch.set_num_threads(1)
    processes = Processes("cpu")
    works: dict[int, Work] = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        lines = connection.makefile("rw", encoding="utf-8")
        for line in lines:
            order = json.loads(line)
            batch = order["batch"]
            if batch not in works:
                works[batch] = Work(processes, size, batch)
            print(json.dumps(answer(works[batch], order["name"])), file=lines, flush=True)
    processes.close()


if __name__ == "__main__":
    main()

"""Processes that wait for work, started as a user starts them: by torchrun, one thread each."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, TextIO

from benchmarks.scaling.tasks import WorkSize

__all__ = ["ROOT", "Team", "torchrun"]

_PATIENCE = 300.0
"""Seconds without an answer after which a worker counts as dead."""

ROOT = Path(__file__).parents[2]


def torchrun(
    processes: int, *arguments: str, output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Starts `torchrun --standalone -m ...` from the repository with one thread a process.

    Args:
        processes: How many.
        *arguments: Module and its arguments.
        output: Where all output goes; None leaves it where this process's goes.
    """
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


class Team:
    """So many processes that do the same work together, and idle without it.

    Args:
        processes: How many.
        size: The work.

    Raises:
        TimeoutError: A process did not start.
    """

    def __init__(self, processes: int, size: WorkSize) -> None:
        self.processes = processes
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_PATIENCE)
            arguments = (str(server.getsockname()[1]), json.dumps(dataclasses.asdict(size)))
            self._launcher = torchrun(processes, "benchmarks.scaling.worker", *arguments)
            self._connections = [server.accept()[0] for _ in range(processes)]
        self._lines: list[TextIO] = []
        for connection in self._connections:
            connection.settimeout(_PATIENCE)
            self._lines.append(connection.makefile("rw", encoding="utf-8"))

    def start(self, name: str, batch: int) -> None:
        """Orders a piece of work with a global batch; `finish` waits for it."""
        for lines in self._lines:
            print(json.dumps({"name": name, "batch": batch}), file=lines, flush=True)

    def finish(self) -> dict[str, Any]:
        """The answer of the slowest process, with the `cpu` of all."""
        answers = [json.loads(lines.readline() or "null") for lines in self._lines]
        if None in answers:
            raise RuntimeError("a worker died; its message is above")
        slowest = max(answers, key=lambda answer: answer["seconds"])
        return {**slowest, "cpu": sum(answer.get("cpu", 0.0) for answer in answers)}

    def do(self, name: str, batch: int) -> dict[str, Any]:
        """`start` and `finish`."""
        self.start(name, batch)
        return self.finish()

    def close(self) -> None:
        """Ends the processes."""
        for lines, connection in zip(self._lines, self._connections, strict=True):
            lines.close()
            connection.close()
        self._launcher.wait(60)

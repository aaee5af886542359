"""One start of the training command: its processes, how they are hurt, and how they end.

The processes are forked from this one, which has imported everything already, so a start takes
a fraction of a second; no launcher tidies up after them. Or `torchrun` starts them.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import plants

__all__ = ["Ended", "Job", "children"]

Plant = Callable[[int], None]

LIMIT = 600.0
"""Seconds after which a job counts as hanging."""


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit codes by rank (negative: the signal), its output, and when."""

    codes: list[int]
    output: str
    seconds: float
    hung: bool

    @property
    def done(self) -> bool:
        """Whether every process ended well."""
        return not self.hung and all(code == 0 for code in self.codes)


class Job:
    """A start of `train.py`.

    Args:
        config: The config file.
        folder: The run folder.
        processes: How many.
        plant: Called with the rank in each forked process before the training.
        options: Further overrides.
        torchrun: Let `torchrun` start the processes; the job is then the launcher alone.
    """

    def __init__(
        self,
        config: Path,
        folder: Path,
        processes: int,
        plant: Plant | None = None,
        options: tuple[str, ...] = (),
        torchrun: bool = False,
    ) -> None:
        self.torchrun, self.folder, self.processes = torchrun, folder, processes
        self.logs = [
            folder.with_name(f"{folder.name}.{rank}.log")
            for rank in range(1 if torchrun else processes)
        ]
        arguments = ["--config", str(config), f"run.dir={folder}", *options]
        folder.parent.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.codes: dict[int, int] = {}
        self.pids: list[int] = []
        for rank, log in enumerate(self.logs):
            log.write_text("")

            def body(rank: int = rank) -> int:
                if torchrun:
                    _exec_torchrun(processes, arguments)
                return _train(rank, processes, port, plant, arguments)

            self.pids.append(_fork(body, log))

    def ranks(self) -> list[int]:
        """Process ids by rank."""
        return sorted(children(self.pids[0])) if self.torchrun else self.pids

    def running(self) -> bool:
        """Whether any process has not ended yet."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.codes[rank] = os.waitstatus_to_exitcode(status)
        return len(self.codes) < len(self.pids)

    def run_for(self, seconds: float) -> bool:
        """Waits so long; False if the job ended before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.running():
                return False
            time.sleep(0.01)
        return self.running()

    def wait(self, limit: float = LIMIT) -> Ended:
        """Waits for the end; what still runs after `limit` seconds hangs and is killed."""
        since = time.monotonic()
        hung = self.run_for(limit)
        seconds = time.monotonic() - since
        self.end()
        codes = [self.codes[rank] for rank in range(len(self.pids))]
        output = "".join(log.read_text(errors="replace") for log in self.logs)
        return Ended(codes, output, seconds, hung)

    def end(self) -> None:
        """Kills whatever is left, data workers included."""
        for rank, pid in enumerate(self.pids):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if rank not in self.codes:
                self.codes[rank] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(entry.name))
    return found


def _fork(body: Callable[[], int], log: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = body()
    finally:
        os._exit(code)


def _exec_torchrun(processes: int, arguments: list[str]) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    os.execv(sys.executable, [sys.executable, *launch, "-m", "tests.faults.rank", *arguments])


def _train(
    rank: int,
    processes: int,
    port: int,
    plant: Plant | None,
    arguments: list[str],
) -> int:
    """The body of a process; returns its exit code."""
    from atd.commands.train import main

    if processes > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    sys.argv = ["train.py", *arguments]
    try:
        plants.no_pictures()
        if plant is not None:
            plant(rank)
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        multiprocessing.util._exit_function()  # a fork ends without it, and it may hang
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

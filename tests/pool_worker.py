"""One process of the pool: does what pytest asks of it, until pytest has gone."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from types import ModuleType

import torch
from torch import distributed

from atd.training.processes import Processes


def main(store: str, connection: Connection) -> None:
    torch.set_num_threads(1)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, orders), daemon=True).start()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # They meet at a file: a port that is free now may be taken a moment later.
    meeting = distributed.FileStore(store, count)
    distributed.init_process_group("gloo", store=meeting, rank=rank, world_size=count)
    processes = Processes("cpu")
    while True:
        connection.send_bytes(_answer(processes, orders.get()))


def _listen(connection: Connection, orders: queue.SimpleQueue[bytes]) -> None:
    """Hears of the end of pytest also while work is done, or waits for the other process."""
    try:
        while True:
            orders.put(connection.recv_bytes())
    except (EOFError, OSError):
        # At once: some versions of gloo abort while a process takes itself down.
        os._exit(0)


def _answer(processes: Processes, order: bytes) -> bytes:
    """Whether the work was done, and its result or what went wrong."""
    try:
        name, file, function, arguments = pickle.loads(order)
        result = getattr(_module(name, file), function)(processes, *arguments)
        return pickle.dumps((True, result))
    except BaseException:  # SystemExit too: nothing but pytest's end ends the process
        return pickle.dumps((False, traceback.format_exc()))


def _module(name: str, file: str) -> ModuleType:
    """The module of that file: pytest imports tests under names that are on no path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


if __name__ == "__main__":
    main(sys.argv[1], Connection(int(sys.argv[2])))

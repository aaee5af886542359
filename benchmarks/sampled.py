"""Trains with a sampling clock: which share of the time is spent outside networks?

    python -m benchmarks.sampled REPORT.json [key=value ...]

A second thread looks at the main one's stack some hundred times a second. Time counts as inside
while a network's pass, its gradient, an attack's step or an optimiser is on the stack; importing
libraries, reading images, writing states and reports, and metrics are outside.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

__all__ = ["Sampler", "is_inside"]

_INSIDE = ("/torch/nn/", "/torch/autograd/", "/torch/optim/", "/atd/attacks/")
_PERIOD = 0.004


class Sampler:
    """Samples the thread that makes it, from `start` to `stop`."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.inside = 0.0
        self.outside: defaultdict[str, float] = defaultdict(float)
        self.seconds = 0.0

    def start(self) -> None:
        """Begins to sample."""
        self._started = time.perf_counter()
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self._started

    def _watch(self) -> None:
        last = time.perf_counter()
        while not self._stopped.wait(_PERIOD):
            frame = sys._current_frames().get(self._main)
            now = time.perf_counter()
            if frame is not None and is_inside(frame):
                self.inside += now - last
            else:
                self.outside[_place(frame)] += now - last
            last = now


def is_inside(frame: FrameType | None) -> bool:
    """Whether a stack is that of computing with networks, and not of importing them."""
    inside = False
    while frame is not None:
        name = frame.f_code.co_filename.replace("\\", "/")
        if name.startswith("<frozen importlib"):
            return False
        inside = inside or any(part in name for part in _INSIDE)
        frame = frame.f_back
    return inside


def _place(frame: FrameType | None) -> str:
    """The innermost function of this package on the stack, or that something is imported."""
    found = ""
    while frame is not None:
        name = frame.f_code.co_filename.replace("\\", "/")
        if name.startswith("<frozen importlib"):
            return "imports"
        if not found and "/atd/" in name:
            found = f"atd/{name.rsplit('/atd/', 1)[1]} {frame.f_code.co_name}"
        frame = frame.f_back
    return found or "elsewhere"


def main() -> None:
    report, *overrides = sys.argv[1:]
    sampler = Sampler()
    sampler.start()
    # From here on, so that the libraries' import is part of what is measured.
    from atd.commands.train import main as train

    sys.argv = ["train.py", *overrides]
    code: object = 0
    try:
        train()
    except SystemExit as end:
        code = end.code
    sampler.stop()
    if code:
        raise SystemExit(code)
    found = {
        "seconds": sampler.seconds,
        "inside": sampler.inside,
        "outside": sum(sampler.outside.values()) / sampler.seconds,
        "parts": dict(sorted(sampler.outside.items(), key=lambda part: -part[1])[:8]),
    }
    Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()

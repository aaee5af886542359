"""Runs what a user starts in a copy of pytest's own process, where all is imported already."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["command", "forked", "script"]


def command(name: str, *words: str) -> Callable[[], object]:
    """What `python -m NAME WORDS` does."""

    def work() -> object:
        sys.argv[1:] = words
        return runpy.run_module(name, run_name="__main__", alter_sys=True)

    return work


def script(file: Path) -> Callable[[], object]:
    """What `python FILE` does."""
    return lambda: runpy.run_path(str(file), run_name="__main__")


def forked(work: Callable[[], object], folder: Path) -> tuple[int, str]:
    """Does something in a child, in a folder; whatever it changes is gone with the child.

    Returns:
        Its exit code, and what it wrote to both standard streams.
    """
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os._exit(_code(work, folder))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read()


def _code(work: Callable[[], object], folder: Path) -> int:
    """Does the work, which pytest's own streams hear nothing of; its exit code."""
    code = 0
    with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
        try:
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            work()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
    return code

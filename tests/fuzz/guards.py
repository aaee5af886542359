"""Runs one case under guards: what may end a process, fill it, hang it or leave it is counted."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import atd
from atd.errors import UserError

CPU_SECONDS = 5.0
"""Processor time after which a case hangs; a whole digits run evaluates 60 images in less."""
WALL_SECONDS = 60.0
"""The same for a case that waits for something without working."""
MEMORY = 512 * 2**20
"""Bytes that a case may take beyond what the process has; the largest honest one takes 60 MiB."""
SECRET = "canary-3f61a7"
"""Stands in the environment; a case that shows it has looked something up."""

Kind = Literal["clean error", "fine", "crash", "hang", "over-allocation", "execution"]
KINDS: tuple[Kind, ...] = ("clean error", "fine", "crash", "hang", "over-allocation", "execution")

_RUNNING = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.fork",
    "pty.spawn",
    "socket.",
    "urllib.",
    "ftplib.",
    "http.",
    "ctypes.dlopen",
    "webbrowser.",
)
_CHANGING = dict.fromkeys(("os.remove", "os.rmdir"), 1)
_CHANGING |= dict.fromkeys(("os.rename", "os.mkdir", "os.link", "os.chmod"), 2)
"""Events, and which of their arguments is the descriptor of the folder that a path starts from."""
_OUR_COMMIT = ["git", "-C", str(Path(atd.__file__).parent)]
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """What a case tried; no handler of ours swallows it."""


class _TimedOut(BaseException):
    pass


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and what shows it."""

    kind: Kind
    note: str = ""


class Guard:
    """Watches this process; audit hooks stay for good, so it is meant for a child."""

    def __init__(self, scratch: Path) -> None:
        self.allowed = (os.path.realpath(scratch), "/dev/null", "/dev/shm")
        self.planted = os.path.join(self.allowed[0], "planted")
        os.makedirs(self.planted, exist_ok=True)
        Path(self.planted, "canary.py").write_text("def make(**_): ...\n")
        sys.path.insert(0, self.planted)
        os.chdir(self.planted)
        self.tried: list[str] = []
        self.active = False
        os.environ["ATD_FUZZ_SECRET"] = SECRET
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, self._timed_out)
        signal.signal(signal.SIGALRM, self._timed_out)

    def attempt(self, case: Callable[[], object]) -> Outcome:
        """Runs a case to its end, whichever it is."""
        self.tried.clear()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with self._watching():
            outcome = self._run(case)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if self.tried:
            return Outcome("execution", "; ".join(self.tried)[:300])
        if outcome.kind not in ("hang", "over-allocation") and grown > MEMORY:
            return Outcome("over-allocation", f"{grown / 2**20:.0f} MiB ({outcome.note[:200]})")
        return outcome

    def _run(self, case: Callable[[], object]) -> Outcome:
        try:
            shown = str(case())
        except UserError as error:
            return _of_message(str(error))
        except Forbidden as error:
            return Outcome("execution", str(error))
        except _TimedOut:
            return Outcome("hang", "took too long")
        except MemoryError as error:
            return Outcome("over-allocation", repr(error)[:300])
        except BaseException as error:
            return _of_exception(error)
        return Outcome("execution", "shows a secret") if SECRET in shown else Outcome("fine")

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_AS)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2 * MEMORY, limits[1]))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        self.active = True
        try:
            yield
        finally:
            self.active = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, limits)

    def _timed_out(self, *_: object) -> None:
        if self.active:
            raise _TimedOut

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        reason = ""
        if event == "ctypes.dlopen" and str(arguments[0]).startswith(sys.prefix):
            return  # a library of an installed package
        if event == "subprocess.Popen" and list(arguments[1][:3]) == _OUR_COMMIT:
            return  # `atd.provenance` asks which commit the code is of
        if event.startswith(_RUNNING):
            reason = f"{event} {arguments}"
        elif event == "open":
            path, writes = arguments[0], _writes(arguments[2])
            if self._is_outside(path) and (writes or "canary" in str(path)):
                reason = f"open {path!r}"
        elif event in _CHANGING and self._is_outside(arguments[0], arguments[_CHANGING[event]]):
            reason = f"{event} {arguments[0]!r}"
        if reason:
            self.tried.append(reason[:200])
            raise Forbidden(reason[:200])

    def _is_outside(self, path: object, folder: int = -1) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # a descriptor that was opened before
        base = self.planted if folder < 0 else os.readlink(f"/proc/self/fd/{folder}")
        real = os.path.realpath(os.path.join(base, os.fsdecode(path)))
        if real.startswith(self.planted) or "__pycache__" in real:
            return "__pycache__" not in real
        return not any(real == root or real.startswith(root + os.sep) for root in self.allowed)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & _WRITING)


def _of_message(message: str) -> Outcome:
    if SECRET in message:
        return Outcome("execution", "shows a secret")
    if "\n" in message or len(message) > 2000:
        return Outcome("crash", f"not one short line: {message[:200]!r}")
    return Outcome("clean error", message[:200])


def _of_exception(error: BaseException) -> Outcome:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}atd{os.sep}" in frame.filename] or frames
    where = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"
    note = f"{type(error).__name__} at {where}: {str(error)[:200]}"
    full = any(words in note for words in ("not enough memory", "an't allocate", "bad_alloc"))
    return Outcome("over-allocation" if full else "crash", note)


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for all files of a run."""
    return tempfile.TemporaryDirectory(prefix="atd-fuzz-")

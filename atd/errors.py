"""Errors that a person can act on, and how commands end."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "Interrupted",
    "LostContact",
    "UserError",
    "first_line",
    "is_lost_contact",
    "nearest",
    "printable",
    "run_command",
    "signalled",
]


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk, a quota or a file-size limit is full."""


_LOST = re.compile(
    r"gloo|nccl|TCPStore|connection (closed|reset|refused)|broken pipe|socket|timed? ?out", re.I
)
"""Words of the messages with which collectives fail when a process is gone or silent."""


class UserError(Exception):
    """A mistake of the user's: one line that names the file, key or value and the remedy.

    Args:
        message: The line; line breaks become blanks, and what a terminal cannot show is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split("\n")), 2000))


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; the same command resumes it."""


class LostContact(Exception):
    """Another process of the job died or hangs; the same command resumes the run."""


def is_lost_contact(error: Exception) -> bool:
    """Whether an error is what a collective raises when another process died or hangs.

    gloo raises plain RuntimeErrors, which only their words tell from faults of ours. torch's own
    class is known by name: commands that fail early have not imported torch.
    """
    if any(kind.__name__ == "DistError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like a mistyped one."""
    lower = {item.lower(): item for item in known}
    return lower[difflib.get_close_matches(word[:100].lower(), lower, n=1, cutoff=0.0)[0]]


def first_line(error: Exception) -> str:
    """The beginning of an error's message."""
    return (str(error).strip().splitlines() or ["no reason given"])[0][:160]


def printable(text: str, longest: int = 1000) -> str:
    r"""Text for messages and tables: one line, UTF-8, nothing that a terminal acts upon.

    Args:
        text: Any text, e.g. a file name that somebody else chose.
        longest: Characters that are kept.

    Returns:
        The text with bytes that are not UTF-8 written `\xff`, control characters `\x1b`, and
        what turns the direction of writing `\u202e`.
    """
    cut = text if len(text) <= longest else text[: longest - 3] + "..."
    try:
        raw = cut.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = cut.encode("utf-8", "backslashreplace")
    return "".join(map(_escaped, raw.decode("utf-8", "backslashreplace")))


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def run_command(command: Callable[[], None]) -> None:
    """Runs a command and ends the process with the exit code of the contract.

    Args:
        command: The command's body.

    Raises:
        SystemExit: 2 after a `UserError` or on a full disk (one line on standard error), 130 after
            Ctrl-C or SIGTERM. Any other exception is a fault of ours and keeps its traceback (1).
            `LostContact` ends the process at once (1, one line): nothing is torn down.
    """
    try:
        with _signals_end_it():
            command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        print(
            f"error: {error.filename or 'a file'}: cannot be written ({error.strerror}); free some "
            "space and run the same command again",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except Interrupted as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        raise SystemExit(130) from None
    except LostContact as lost:
        print(f"error: {lost}", file=sys.stderr, flush=True)
        # Tearing down a broken process group may wait for the dead or abort.
        os._exit(1)
    except RuntimeError as error:
        rank = os.environ.get("RANK")
        if rank is None or not is_lost_contact(error):
            raise
        print(
            f"error: rank {rank}: no contact with another process; the same command again goes on "
            f"({first_line(error)})",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
    except KeyboardInterrupt:
        print("stopped: nothing further was saved; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


_signals: list[int] = []


def signalled() -> bool:
    """Whether Ctrl-C or SIGTERM has come since the command began.

    What they raise is lost where Python calls back from C, so whoever can stop should ask too.
    """
    return bool(_signals)


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """SIGTERM ends a command like Ctrl-C; without this it would end it without a word."""

    def stop(number: int, _: object) -> None:
        _signals.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is signal.SIG_IGN:  # a shell's background job leaves Ctrl-C to others
        del before[signal.SIGINT]
    try:
        with contextlib.suppress(ValueError):  # not in the main thread: the caller handles signals
            for number in before:
                signal.signal(number, stop)
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):  # or set by C, which Python cannot
            for number, handler in before.items():
                signal.signal(number, handler)
        _signals.clear()

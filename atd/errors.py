"""Errors that a person can act on, and how commands end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

__all__ = ["Interrupted", "LostContact", "UserError", "run_command"]


class UserError(Exception):
    """A mistake of the user's: one line that names the file, key or value and the remedy."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; the same command resumes it."""


class LostContact(Exception):
    """Another process of the job died or hangs; the same command resumes the run."""


def run_command(command: Callable[[], None]) -> None:
    """Runs a command and ends the process with the exit code of the contract.

    Args:
        command: The command's body.

    Raises:
        SystemExit: 2 after a `UserError` (one line on standard error), 130 after Ctrl-C or
            SIGTERM, 1 after `LostContact` (one line). Any other exception is a fault of ours and
            keeps its traceback (1).
    """
    _end_on_sigterm()
    try:
        command()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except Interrupted as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        raise SystemExit(130) from None
    except LostContact as lost:
        print(f"error: {lost}", file=sys.stderr, flush=True)
        # Tearing down a broken process group may wait for the dead or abort.
        os._exit(1)
    except KeyboardInterrupt:
        print("stopped: nothing further was saved; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


def _end_on_sigterm() -> None:
    """SIGTERM ends a command like Ctrl-C; without this it would end it without a word."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not in the main thread: the caller handles signals
        signal.signal(signal.SIGTERM, stop)

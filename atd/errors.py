"""Errors that a person can act on, and how commands end."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["Interrupted", "UserError", "run_command"]


class UserError(Exception):
    """A mistake of the user's: one line that names the file, key or value and the remedy."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; the same command resumes it."""


def run_command(command: Callable[[], None]) -> None:
    """Runs a command and ends the process with the exit code of the contract.

    Args:
        command: The command's body.

    Raises:
        SystemExit: 2 after a `UserError` (one line on standard error), 130 after an
            interruption. Any other exception is a fault of ours and keeps its traceback (1).
    """
    try:
        command()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except Interrupted as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        raise SystemExit(130) from None
    except KeyboardInterrupt:
        print("stopped: nothing further was saved", file=sys.stderr)
        raise SystemExit(130) from None

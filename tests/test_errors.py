"""How commands end: exit codes and one line on standard error."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atd.errors import Interrupted, UserError, run_command
from atd.training.stop_signals import StopSignals


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("data.id=x: no such\nfolder"), 2, "error: data.id=x: no such folder\n"),
        (Interrupted("saved at step 3"), 130, "stopped: saved at step 3\n"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, "No space left", "a.npz"), 2, "error: a.npz: cannot be written"),
        (OSError(errno.EDQUOT, "Quota exceeded"), 2, "error: a file: cannot be written"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: _raise(error))
    assert caught.value.code == code
    captured = capsys.readouterr().err
    assert captured.startswith(words)
    assert captured.count("\n") == 1


def test_our_own_faults_keep_their_traceback() -> None:
    for error in (ZeroDivisionError(), OSError(errno.EIO, "I/O error")):
        with pytest.raises(type(error)):
            run_command(lambda error=error: _raise(error))


@pytest.fixture(autouse=True)
def _handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_a_command_like_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: signal.raise_signal(signal.SIGTERM))
    assert caught.value.code == 130
    assert "stopped" in capsys.readouterr().err


@pytest.fixture
def answered() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell's background job is started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("answered")
def test_a_signal_that_python_swallows_is_answered_by_the_next_training() -> None:
    def command() -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as a callback from C would
            signal.raise_signal(signal.SIGINT)
        with StopSignals() as stop:
            assert stop.asked
            stop.asked = False
        with pytest.raises(KeyboardInterrupt), StopSignals():
            pass

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_command(command)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with StopSignals() as stop:
        assert not stop.asked


def test_lost_contact_ends_at_once_with_one_line_and_1() -> None:
    code = (
        "from atd.errors import *\n"
        "def lose(): raise LostContact('rank 0: lost contact with rank 1 in atd at step 3')\n"
        "try: run_command(lose)\n"
        "finally: print('torn down')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 1
    assert done.stderr == "error: rank 0: lost contact with rank 1 in atd at step 3\n"
    assert done.stdout == ""

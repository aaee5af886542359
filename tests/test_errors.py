"""How commands end: exit codes and one line on standard error."""

import pytest

from atd.errors import Interrupted, UserError, run_command


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("data.id=x: no such\nfolder"), 2, "error: data.id=x: no such folder\n"),
        (Interrupted("saved at step 3"), 130, "stopped: saved at step 3\n"),
        (KeyboardInterrupt(), 130, "stopped"),
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
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: _raise(ZeroDivisionError()))

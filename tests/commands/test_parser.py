"""A mistake on any command line ends with one line and exit code 2."""

from __future__ import annotations

import sys

import pytest

from atd.commands import calibrate, evaluate, export, reproduce, score, train

WORDS = {
    "nothing for score": (score, []),
    "nothing for export": (export, []),
    "nothing for calibrate": (calibrate, []),
    "unknown option": (train, ["--bogus"]),
    "no number": (calibrate, ["detector", "--id", "images", "--accept", "a"]),
    "no format": (score, ["detector", "a.png", "--format", "xml"]),
    "unknown experiment": (reproduce, ["table9"]),
    "option without a value": (evaluate, ["detector", "--output"]),
}


@pytest.mark.parametrize("case", WORDS)
def test_it_is_one_line(monkeypatch, capsys, case):
    command, words = WORDS[case]
    monkeypatch.setattr(sys, "argv", ["atd", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not said.out

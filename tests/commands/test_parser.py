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
    "number that is none": (score, ["detector", "a.png", "--threshold", "-x"]),
    "page of nothing": (score, ["detector", "a.png", "--page", "p.html"]),
    "rows over an image": (score, ["detector", "--output", "a.png", "b.png"]),
    "folder of a config": (score, ["detector", "folder:a"]),
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


def test_a_negative_threshold_is_a_value(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        score.main(["no/detector", "pyproject.toml", "--threshold", "-0.5"])
    assert "no/detector: no such folder" in capsys.readouterr().err
    given = score._parser().parse_args(["d", "-", "-0", "--threshold", "-1"])
    assert (given.null, given.threshold) == (True, "-1")


@pytest.mark.parametrize("flag", ["--p-values", "--strict", "--skip-unreadable"])
def test_the_option_of_names_that_end_with_nul_is_no_value(flag):
    assert score._parser().parse_args(["d", "-", flag, "-0"]).null

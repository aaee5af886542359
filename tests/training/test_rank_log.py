"""A process's own log: what it did, and what ended it."""

from __future__ import annotations

import os

import pytest

from atd.errors import UserError
from atd.training.rank_log import RankLog


@pytest.fixture
def file(tmp_path):
    return tmp_path / "logs" / "rank-0.log"


def test_lines_have_a_time_and_a_restart_continues(file, processes):
    for text in ("one", "two\nlines"):
        with RankLog(file) as log:
            log.start(processes)
            log.write(text)
    lines = file.read_text().splitlines()
    assert [line[:2] for line in lines if not line.startswith(" ")] == ["20"] * 4
    assert f"start: rank 0 of 1 on {os.uname().nodename}, process {os.getpid()}" in lines[0]
    assert lines[1].endswith(" one")
    assert lines[3].endswith(" two")
    assert lines[4] == "    lines"


def test_a_line_is_there_at_once(file, processes):
    log = RankLog(file)
    log.start(processes)
    log.write("before the kill")
    assert file.read_text().endswith(" before the kill\n")


@pytest.mark.parametrize(
    ("error", "traceback"),
    [(UserError("x: too small"), False), (ZeroDivisionError("by us"), True)],
)
def test_what_ends_the_process_is_the_last_line(file, processes, error, traceback):
    def end():
        with RankLog(file) as log:
            log.start(processes)
            raise error

    with pytest.raises(type(error)):
        end()
    text = file.read_text()
    assert str(error) in text.splitlines()[-1]
    assert ("Traceback" in text) is traceback


def test_nothing_is_written_unasked_or_before_the_start(file, processes, tmp_path):
    with RankLog(None) as log:
        log.start(processes)
        log.write("text")
    RankLog(file).write("text")
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_is_the_users(tmp_path, processes):
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match=r"rank-0\.log: .*run\.rank_logs=false"):
        RankLog(tmp_path / "logs" / "rank-0.log").start(processes)

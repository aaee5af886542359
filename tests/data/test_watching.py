"""Images that come while somebody watches: each once, and none that is still being written."""

from __future__ import annotations

import io
import itertools
import os
import sys
import time

from atd.data import watching
from atd.data.remarks import Remarks
from atd.data.watching import watched_images
from atd.detectors import streaming


def until_pause(paths):
    return list(itertools.takewhile(lambda path: path is not None, paths))


def age(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_files_come_when_they_have_stopped_growing(tmp_path, monkeypatch):
    monkeypatch.setattr(watching.time, "sleep", lambda _: None)
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(b"1")
    age(old, 60)
    paths = watched_images([str(tmp_path)], pause=30)
    assert until_pause(paths) == [str(old)]
    new.write_bytes(b"1")
    assert until_pause(paths) == []
    new.write_bytes(b"12")
    assert until_pause(paths) == []
    assert until_pause(paths) == [str(new)]
    assert until_pause(paths) == []
    old.write_bytes(b"changed")
    assert until_pause(paths) == []
    assert until_pause(paths) == [str(old)]


def test_what_is_left_out_is_told_and_told_again_when_there_is_more(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watching.time, "sleep", lambda _: None)
    paths = watched_images([str(tmp_path)])
    (tmp_path / "a.heic").touch()
    assert until_pause(paths) == []
    assert "1 left out: 1 .heic files" in capsys.readouterr().err
    assert until_pause(paths) == []
    assert not capsys.readouterr().err
    (tmp_path / "b.heic").touch()
    assert until_pause(paths) == []
    assert "2 left out: 2 .heic files" in capsys.readouterr().err


def test_standard_input_is_passed_on_block_by_block(monkeypatch):
    class Stream:
        buffer = io.BytesIO(b"")
        blocks = [b"a.png\nb.p", b"ng\n", b""]

        def read1(self, _):
            return self.blocks.pop(0)

    stream = Stream()
    stream.buffer = stream
    monkeypatch.setattr(sys, "stdin", stream)
    assert list(watched_images(["-"])) == ["a.png", None, "b.png", None]


def test_what_there_is_is_scored_before_more_is_waited_for(monkeypatch):
    waited = []

    def names():
        yield "a"
        yield None
        waited.append("for more")
        yield "b"

    monkeypatch.setattr(streaming, "_score_batch", lambda _, batch, images: list(batch))
    monkeypatch.setattr(streaming, "read_image", lambda *_: "pixels")
    detector = type("Detector", (), {"config": type("C", (), dict.fromkeys(
        ("image_size", "channels", "scale"), 1))})  # fmt: skip
    rows = streaming.score_files(detector, names(), Remarks())
    assert next(rows) == "a"
    assert not waited
    assert list(rows) == ["b"]

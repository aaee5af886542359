"""Folders that are replaced: whole or absent, and nothing of anybody else's touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atd import files
from atd.errors import UserError
from atd.files import clear_litter, replacing_folder, require_ours

ROOT = Path(__file__).parents[1]


def is_ours(folder):
    return (folder / "mark").is_file()


def make(folder, text="new"):
    with replacing_folder(folder, ours=is_ours, what="a detector") as fresh:
        (fresh / "mark").write_text(text)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "detector"
    make(folder, "old")
    (folder / "left").write_text("")
    make(folder)
    assert names(tmp_path) == ["detector"]
    assert names(folder) == ["mark"]
    assert (folder / "mark").read_text() == "new"


@pytest.mark.parametrize("place", ["file", "link", "folder"])
def test_what_is_not_ours_is_refused_and_stays(tmp_path, place):
    folder = tmp_path / "sv"
    if place == "file":
        folder.write_text("precious")
    elif place == "link":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()
        (folder / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="sv: exists and is no") as error:
        make(folder)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["sv"]
    assert place != "folder" or (folder / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_a_name_that_no_folder_can_have_is_refused_before_the_work(tmp_path, name):
    with pytest.raises(UserError, match="cannot be written: .*; choose another folder"):
        require_ours(tmp_path / name, ours=is_ours, what="a detector")


def test_folders_of_the_users_beside_it_stay(tmp_path):
    for name in ("sv.old", "sv.tmp", ".sv.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("precious")
    for _ in range(2):
        make(tmp_path / "sv")
    assert names(tmp_path) == [".sv.tmp", "sv", "sv.old", "sv.tmp"]
    assert (tmp_path / "sv.old" / "thesis.tex").read_text() == "precious"


def test_an_empty_folder_is_taken_and_a_link_to_ours_is_not_followed(tmp_path):
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")
    require_ours(tmp_path / "empty", ours=is_ours, what="a detector")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    make(tmp_path / "link", "newer")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "mark").read_text() == "new"


def test_what_came_meanwhile_is_not_replaced(tmp_path):
    folder = tmp_path / "sv"

    def race():
        with replacing_folder(folder, ours=is_ours, what="a detector") as fresh:
            (fresh / "mark").touch()
            folder.mkdir()
            (folder / "thesis.tex").write_text("precious")

    with pytest.raises(UserError, match="sv"):
        race()
    assert names(folder) == ["thesis.tex"]
    assert names(tmp_path) == ["sv"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_failed_folder_keeps_the_old_one(tmp_path, monkeypatch, at_once):
    make(tmp_path / "sv", "old")
    if not at_once:
        monkeypatch.setattr(files, "exchange_at_once", lambda *_: False)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", full)
        with pytest.raises(OSError, match="No space"):
            make(tmp_path / "sv")
    assert (tmp_path / "sv" / "mark").read_text() == "old"
    make(tmp_path / "sv")
    assert (tmp_path / "sv" / "mark").read_text() == "new"
    assert names(tmp_path) == ["sv"]


def test_readers_find_the_old_or_the_new_folder_at_any_moment(tmp_path):
    if sys.platform != "linux":
        pytest.skip("other systems cannot exchange folders in one step")
    folder, stop, missing = tmp_path / "sv", threading.Event(), []
    make(folder, "0")

    def look():
        while not stop.is_set():
            try:
                (folder / "mark").read_text()
            except OSError as error:
                missing.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(50):
        make(folder, str(number))
    stop.set()
    reader.join()
    assert not missing


KILLED = """
import os, signal, sys
from pathlib import Path
from atd import files
at, at_once = sys.argv[2], sys.argv[3] == "True"
if not at_once:
    files.exchange_at_once = lambda *_: False
def killing(function):
    def call(*arguments):
        if at == "before": os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return call
files.os = type("os", (), {**vars(os)})
if at_once: files.exchange_at_once = killing(files.exchange_at_once)
else: files.os.replace = killing(os.replace)
with files.replacing_folder(Path(sys.argv[1]), ours=lambda _: True, what="a detector") as fresh:
    (fresh / "mark").write_text("new")
"""


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_kill_between_two_renames_loses_nothing(tmp_path, at, at_once):
    folder = tmp_path / "sv"
    make(folder, "old")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), at, str(at_once)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert folder.exists() or not at_once  # only the fallback has a moment without
    assert len(names(tmp_path)) == 1 + folder.exists()
    clear_litter(tmp_path)
    assert names(tmp_path) == ["sv"]
    expected = "new" if at_once and at == "after" else "old"
    assert (folder / "mark").read_text() == expected

"""Files that are replaced: whole or absent, and nothing of anybody else's touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atd import files
from atd.files import clear_litter, replacing, replacing_folder, write_text

ROOT = Path(__file__).parents[1]


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def mask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "below" / "a.txt"
    with replacing(file) as temporary:
        temporary.write_text("half")
        assert not file.exists()
        temporary.write_text("whole")
    assert file.read_text() == "whole"
    write_text(file, "text\n\n")
    assert file.read_text() == "text\n"
    assert names(file.parent) == ["a.txt"]


def test_a_failure_keeps_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def stopped():
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, os.fsdecode(b"\xff\xfe.csv"), "a b\n.csv"])
def test_any_name_that_a_file_may_have(tmp_path, name):
    for _ in range(2):
        write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name]


def test_files_of_the_users_beside_it_stay(tmp_path):
    users = ["a.csv.tmp", ".a.csv.tmp", "a.csv.old", ".a.csv.1234.tmp", ".a.csv.mine.atd-tmp"]
    for name in users:
        (tmp_path / name).write_text("precious")
    write_text(tmp_path / "a.csv", "new")
    clear_litter(tmp_path)
    assert names(tmp_path) == sorted([*users, "a.csv"])
    assert all((tmp_path / name).read_text() == "precious" for name in users)


def test_a_planted_link_is_neither_followed_nor_removed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "a.csv").write_text("precious")
    tokens = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(tokens))
    (tmp_path / f".a.csv.{'0' * 16}.atd-tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a.csv", "new")
    write_text(tmp_path / "a.csv", "new")
    assert (victim / "a.csv").read_text() == "precious"
    assert (tmp_path / f".a.csv.{'0' * 16}.atd-tmp").is_symlink()


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_in_its_place_is_replaced_and_its_target_stays(tmp_path, exists):
    target, file = tmp_path / "target", tmp_path / "a.csv"
    if exists:
        target.write_text("precious")
    file.symlink_to(target)
    write_text(file, "new")
    assert not file.is_symlink()
    assert file.read_text() == "new\n"
    assert target.exists() == exists
    assert not exists or target.read_text() == "precious"


def test_a_folder_in_its_place_is_told_before_the_work(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(IsADirectoryError, match="a.csv"), replacing(tmp_path / "a.csv"):
        pytest.fail("the work was begun")
    assert names(tmp_path) == ["a.csv"]


def test_permissions_are_those_of_a_plain_open(tmp_path, mask):
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "new") as temporary:
        temporary.unlink()
        temporary.touch(0o600)  # as safetensors does
    assert mode(tmp_path / "new") == mode(tmp_path / "plain") == 0o666 & ~mask
    with replacing_folder(tmp_path / "folder", ours=lambda _: True, what="a detector") as fresh:
        (fresh / "mark").touch(0o600)
    (tmp_path / "plain folder").mkdir()
    assert mode(tmp_path / "folder") == mode(tmp_path / "plain folder")
    assert mode(tmp_path / "folder" / "mark") == mode(tmp_path / "plain")


def test_a_file_keeps_the_permissions_that_its_owner_gave_it(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("old")
    file.chmod(0o640)
    write_text(file, "new")
    assert mode(file) == 0o640


def test_a_device_is_written_to(tmp_path):
    before = os.stat("/dev/null")
    write_text(Path("/dev/null"), "text")
    assert os.path.samestat(before, os.stat("/dev/null"))
    (tmp_path / "null").symlink_to("/dev/null")
    write_text(tmp_path / "null", "text")
    assert (tmp_path / "null").is_symlink()
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="No space left"):
            write_text(Path("/dev/full"), "text")


def test_a_pipe_is_written_to(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    listener = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    listener.start()
    write_text(pipe, "text")
    listener.join(10)
    assert heard == ["text\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("redirection", ["> out", ">> out", "| cat > out"])
def test_standard_output_by_name_is_not_replaced(tmp_path, name, redirection):
    (tmp_path / "out").write_text("before\n")
    code = "from pathlib import Path; from atd.files import write_text; "
    code += f"write_text(Path('{name}'), 'x')"
    done = subprocess.run(
        f'"{sys.executable}" -c "{code}" {redirection}',
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    kept = "before\n" if redirection.startswith(">>") else ""
    assert (tmp_path / "out").read_text() == kept + "x\n"
    assert names(tmp_path) == ["out"]


def test_litter_goes_with_the_next_write_and_what_is_being_made_stays(tmp_path):
    litter = tmp_path / f".a.csv.{'0' * 16}.atd-tmp"
    others = tmp_path / f".b.csv.{'0' * 16}.atd-tmp"
    for folder in (litter, others):
        folder.mkdir()
        (folder / "half").touch()
    with replacing(tmp_path / "a.csv") as first:
        write_text(tmp_path / "a.csv", "second")
        assert not litter.exists()
        clear_litter(tmp_path)
        assert first.exists()
        first.write_text("first")
    assert (tmp_path / "a.csv").read_text() == "first"
    assert names(tmp_path) == ["a.csv"]

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

from atd.config import Config, config_hash
from atd.provenance import commit, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_block_is_complete() -> None:
    block = provenance(Config(), seed=3, seconds=1.26)
    assert list(block) == [
        "commit", "versions", "hardware", "seed", "config_sha256", "seconds", "date",
    ]  # fmt: skip
    assert torch.__version__.startswith(block["versions"]["torch"].split("+")[0])
    assert block["config_sha256"] == config_hash(Config())
    assert (block["seed"], block["seconds"]) == (3, 1.3)
    assert block["date"].endswith("+00:00")
    assert provenance(None, seed=0, seconds=0)["config_sha256"] is None


def test_commit_says_when_the_code_differs(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "results.md").write_text("none yet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "notes.txt").write_text("untracked files are not the code's")
    assert commit(tmp_path) == head
    (tmp_path / "results.md").write_text("written by the code")
    assert commit(tmp_path) == head
    (tmp_path / "code.py").write_text("2")
    assert commit(tmp_path) == f"{head}-dirty"


def test_commit_of_somebody_elses_repository_is_not_ours(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    installed = tmp_path / "site-packages"
    installed.mkdir()
    assert commit(installed) is None

"""The wheel holds all that the product needs at run time, and runs from where it was unpacked."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this tree, built without a network."""
    pytest.importorskip("hatchling", reason="needs hatchling, of requirements-dev.txt")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (file,) = folder.iterdir()
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.mark.slow
def test_it_holds_the_package_and_the_configs_as_git_has_them(wheel):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "atd", "configs"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    expected = {name if name.startswith("atd/") else f"atd/{name}": name for name in files}
    assert {"atd/detectors/formats/page/index.html", "atd/py.typed"} <= expected.keys()
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected.keys()
    for name, source in expected.items():
        assert wheel.read(name) == (ROOT / source).read_bytes(), name


@pytest.mark.slow
def test_it_runs_where_there_is_no_source(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    script = """
import importlib.metadata, atd
from atd.config import load
from importlib import resources
assert "site" in atd.__file__, atd.__file__
assert load(None).run.name == "digits" and load("cifar10").data.image_size == 32
assert (resources.files("atd.detectors.formats") / "page" / "index.html").is_file()
(found,) = importlib.metadata.distributions(name="atd", path=["site"])
commands = [entry.load() for entry in found.entry_points if entry.group == "console_scripts"]
assert len(commands) == 5 and all(map(callable, commands))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": "site", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr

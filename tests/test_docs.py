"""What README and docs say: examples run, links lead somewhere, modules and options exist.

A fenced block after a line `<!-- example -->` is run as it stands, `<!-- example slow -->` only by
`-m slow`. The commands of a document run one after the other in one folder, then its blocks in
Python as one file, and find there what a reader has after the README's first command, made small:
`checkpoints/digits/detector`, the same in `checkpoints/mine/detector`, `my/images` (class folders),
`other/images`, `scans` and `photo.png`. In Python `images` is a batch, float in [0, 1], that fits
the detector.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from forked import command, forked, script
from PIL import Image

from atd.config import Config
from atd.detectors.kinds import KINDS, kind_class

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    str(file.relative_to(ROOT)): file
    for file in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
}
WRITTEN = {name: file for name, file in DOCUMENTS.items() if not file.with_suffix(".json").exists()}
"""Those that no benchmark made: what a benchmark found stays, whatever options there are today."""

_BLOCK = re.compile(
    r"<!-- example(?P<slow> slow)? -->\n+```(?P<language>\w+)\n(?P<code>.*?)```", re.S
)


def blocks(file: Path, *, slow: bool = False) -> list[tuple[str, str]]:
    """Language and code of a document's examples; where slow ones are asked for, of all."""
    found = _BLOCK.finditer(file.read_text(encoding="utf-8"))
    return [(match["language"], match["code"]) for match in found if slow or not match["slow"]]


def examples(*, slow: bool) -> list[str]:
    """Documents that have examples, or slow ones."""
    return [
        name
        for name, file in DOCUMENTS.items()
        if len(blocks(file, slow=slow)) > (len(blocks(file)) if slow else 0)
    ]


@pytest.fixture
def folder(tiny_run, tmp_path):
    """What a reader has at hand."""
    shutil.copytree(tiny_run.folder, tmp_path / "checkpoints" / "digits")
    shutil.copytree(tiny_run.folder / "detector", tmp_path / "checkpoints" / "mine" / "detector")
    for name in ("train.py", "evaluate.py", "configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    generator = np.random.default_rng(0)

    def photo(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(file)

    photo(tmp_path / "photo.png")
    for index in range(3):
        photo(tmp_path / "scans" / f"{index}.png")
    for index in range(40):
        photo(tmp_path / "my" / "images" / f"class{index % 2}" / f"{index}.png")
        photo(tmp_path / "new" / "images" / f"{index}.png")
        photo(tmp_path / "other" / "images" / f"{index}.png")
    return tmp_path


_PRELUDE = """
import torch
images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
"""


def run(code: list[tuple[str, str]], folder: Path) -> None:
    # Blocks that are whole files follow others here, where this import may not.
    python = "".join(text for language, text in code if language == "python").replace(
        "from __future__ import annotations\n", ""
    )
    for line in (line for language, text in code if language == "bash" for line in lines(text)):
        if plain := re.fullmatch(r"python -m (atd\.\w+) ([^|<>&;*?$~]*)", line):
            done = forked(command(plain[1], *shlex.split(plain[2])), folder)
        else:
            done = in_bash(line, folder)
        assert done[0] == 0, f"{line}\n{done[1]}"
    if python:
        (folder / "example.py").write_text(_PRELUDE + python, encoding="utf-8")
        status, said = forked(script(folder / "example.py"), folder)
        assert status == 0, said


def lines(text: str) -> list[str]:
    """The commands of a block."""
    return text.replace("\\\n", " ").strip().splitlines()


def in_bash(line: str, folder: Path) -> tuple[int, str]:
    paths = os.pathsep.join([str(ROOT), str(folder)])
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": paths, "PATH": programs, "OMP_NUM_THREADS": "1"}
    words = ["bash", "-euo", "pipefail", "-c", line]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", examples(slow=False))
def test_examples_run(name, folder):
    run(blocks(DOCUMENTS[name]), folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", examples(slow=True))
def test_slow_examples_run(name, folder):
    run(blocks(DOCUMENTS[name], slow=True), folder)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    file = DOCUMENTS[name]
    text = file.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert not [link for link in links if not (file.parent / link).exists()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_modules_that_are_named_exist(name):
    text = DOCUMENTS[name].read_text(encoding="utf-8")
    for module in set(re.findall(r"python -m ((?:atd|benchmarks|tests)(?:\.[a-z_]+)*)", text)):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("name", WRITTEN)
def test_files_that_are_named_exist(name):
    text = WRITTEN[name].read_text(encoding="utf-8")
    pattern = r"(?<![\w/])((?:atd|benchmarks|configs|tests)/[\w/]+\.(?:py|sh|yaml))"
    assert not [file for file in re.findall(pattern, text) if not (ROOT / file).exists()]


def options() -> set[str]:
    groups = get_type_hints(Config)
    found = {
        f"{group}.{field.name}"
        for group, kind in groups.items()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
    }
    of_kinds = (
        field.name for kind in KINDS for field in dataclasses.fields(kind_class(kind).Options)
    )
    return found | {"detector.kind"} | {f"detector.{name}" for name in of_kinds}


@pytest.mark.parametrize("name", WRITTEN)
def test_options_that_are_named_exist(name):
    text = WRITTEN[name].read_text(encoding="utf-8")
    groups = "run|data|backbone|pretrain|detector|atd|evaluate|loader"
    named = set(re.findall(rf"(?<![\w./])((?:{groups})\.[a-z_]+)=", text))
    assert named <= options()


def test_the_example_of_a_new_kind_is_a_kind_as_it_is():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert (ROOT / "atd/detectors/max_logit.py").read_text() in page
    assert KINDS["max_logit"] in page

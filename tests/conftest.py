"""Settings that all tests share, one tiny run that is trained once, and two processes."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

# Deadlines measure the machine, not the code. The same examples every time, so that a test fails
# because of a change; `--hypothesis-profile=search` looks for new ones.
settings.register_profile("atd", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("atd")

TINY = """\
run: {name: tiny, device: cpu}
data:
  id: "bundled:digits"
  outliers: "bundled:capitals"
  ood_test: ["bundled:lowercase"]
  image_size: 8
  channels: 1
  augment: crop
  id_limit: 80
  outlier_limit: 60
  ood_limit: 20
backbone: {width: 4, features: last}
pretrain: {epochs: 1, helper_epochs: 1, batch_size: 32, steps: 2, epsilon: 0.05, ema: 0.9}
atd: {epochs: 2, batch_size: 16, steps: 2, epsilon: 0.05, latent_dim: 8}
evaluate: {tier: smoke, steps: 3, limit: 20, baselines: [msp]}
"""


SHARED = ("tiny_run", "pool")
"""What takes seconds to make: one of pytest's processes makes it, and runs all that need it."""


@functools.cache
def _group(file):
    """The fixture that tests of a file share with other files, or the file itself."""
    text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    needed = set(re.findall(r"\w+", " ".join(re.findall(r"def \w+\(([^)]*)\)", text))))
    return next((name for name in SHARED if name in needed), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files are handed out whole, and those that share something to the same process."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid.partition("::")[0])

    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """The largest groups come first, small ones even it out."""
    items.sort(key=lambda item: _group(item.nodeid.partition("::")[0]) not in SHARED)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch  # not above: pytest's own process needs none

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _images_are_drawn_once():
    """Bundled sets never change, and most runs of tests read the same ones."""
    from atd.data import bundled, sources

    @functools.cache
    def drawn(name, split, size, channels, procedural):
        return bundled.bundled_set(name, split, SimpleNamespace(image_size=size, channels=channels))

    def remembered(name, split, data):
        return drawn(name, split, data.image_size, data.channels, bundled._PROCEDURAL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "bundled_set", remembered)
        yield


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are built but not painted, which takes half the time of a small evaluation."""
    from PIL import Image

    def blank(figure, file, **_):
        Image.new("RGB", (1, 1)).save(file, "PNG")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", blank)


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts():
    """No test cuts the power, and waiting for the disk takes longer than most of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory) -> Path:
    """A config file whose whole run takes a few seconds."""
    file = tmp_path_factory.mktemp("config") / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_run(tiny_yaml, tmp_path_factory) -> SimpleNamespace:
    """A finished tiny run: `folder`, `config`, `results`. Copy the folder to change it."""
    from atd.config import load
    from atd.pipeline import Run
    from atd.training.processes import Processes

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = load(tiny_yaml, [f"run.dir={folder}"])
    results = Run(config, Processes("cpu")).execute().to_json()
    return SimpleNamespace(folder=folder, config=config, results=results)


@pytest.fixture
def start(tiny_yaml, tmp_path):
    """Makes the tiny run with other options, in a folder of the test's own."""
    from atd.config import load
    from atd.pipeline import Run
    from atd.training.processes import Processes

    def make(*overrides, folder=tmp_path / "run"):
        return Run(load(tiny_yaml, [f"run.dir={folder}", *overrides]), Processes("cpu"))

    return make


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A copy of the finished tiny run, to be changed."""
    return shutil.copytree(tiny_run.folder, tmp_path / "copied")


@pytest.fixture
def flat(tmp_path):
    """A folder of 40 images without classes."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "flat"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(40):
        pixels = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Calls a function on two processes: `first, second = pool(function, *arguments)`."""
    from pool import Pool

    pool = Pool(tmp_path_factory.mktemp("pool"))
    yield pool
    pool.close()


@pytest.fixture
def fail(run, capsys):
    """The line that a command ends with; the test's module tells how it is run."""

    def command(*words):
        with pytest.raises(SystemExit) as caught:
            run(*words)
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return command

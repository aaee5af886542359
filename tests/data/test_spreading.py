"""Spreading work over threads and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from atd.config import DataConfig, LoaderConfig
from atd.data import spreading
from atd.data.decoding import UnreadableImage
from atd.data.images import ImageSet
from atd.data.reading import FilePixels, settle
from atd.data.spreading import cores, spread
from atd.errors import UserError


@pytest.fixture(autouse=True)
def two_processes_for_few_images(monkeypatch):
    monkeypatch.setattr(spreading, "_MANY", 65)
    monkeypatch.setattr(spreading, "cores", lambda: 2)


@pytest.fixture
def folder(tmp_path):
    for index in range(150):
        Image.new("L", (8, 8), index).save(tmp_path / f"{index:03}.png")
    return tmp_path


def image_set(folder):
    return ImageSet.of("some", FilePixels([f"{folder}/{i:03}.png" for i in range(150)], 1, 8))


@pytest.mark.parametrize("processes", [True, False])
def test_pieces_come_in_order_and_cover_everything(processes):
    found = list(spread(lambda piece: (os.getpid(), sum(piece)), 150, processes=processes))
    assert [index for piece, _ in found for index in piece] == list(range(150))
    assert [total for _, (_, total) in found] == [sum(piece) for piece, _ in found]
    assert ({pid for _, (pid, _) in found} == {os.getpid()}) is not processes


def test_no_images_are_no_pieces():
    assert list(spread(len, 0, processes=True)) == []


@pytest.mark.parametrize("memory", [0, 100])
def test_processes_read_what_threads_read(folder, memory, monkeypatch):
    data, loader = DataConfig(image_size=8, channels=1), LoaderConfig(memory_mb=memory)
    images, hashes = settle(image_set(folder), data, loader)
    monkeypatch.setattr(spreading, "_MANY", 10**9)
    again, expected = settle(image_set(folder), data, loader)
    assert hashes == expected
    assert torch.equal(images.fetch(range(150)), again.fetch(range(150)))
    assert images.fetch(range(150))[:, 0, 0, 0].tolist() == list(range(150))


def test_a_broken_image_is_named_and_may_be_skipped(folder):
    (folder / "077.png").write_text("no image")
    loader = LoaderConfig()
    with pytest.raises(UnreadableImage, match=r"077\.png: not readable"):
        settle(image_set(folder), DataConfig(image_size=8, channels=1), loader)
    data = DataConfig(image_size=8, channels=1, skip_corrupt=True)
    images, hashes = settle(image_set(folder), data, loader)
    assert len(images) == len(hashes) == 149
    assert images.fetch([77])[0, 0, 0, 0] == 78


def test_a_process_that_is_killed_ends_the_work_with_one_line():
    with pytest.raises(UserError, match="memory is short"):
        list(spread(lambda _: os.kill(os.getpid(), signal.SIGKILL), 150, processes=True))


def test_processes_end_with_their_parent(tmp_path):
    code = f"""if True:
        import os, time
        from atd.data import spreading
        spreading._MANY, spreading.cores = 0, lambda: 2
        def work(piece):
            open("{tmp_path}/" + str(os.getpid()), "w").close()
            time.sleep(60)
        list(spreading.spread(work, 128, processes=True))
    """
    parent = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    while len(os.listdir(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    children = [int(name) for name in os.listdir(tmp_path)]
    assert len(children) == 2
    while any(_runs(child) for child in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_runs(child) for child in children)


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ranks_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    assert cores() == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert cores() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "40")
    assert cores() == 1


def test_the_start_method_is_left_to_others():
    code = """if True:
        import multiprocessing
        from atd.data import spreading
        spreading._MANY, spreading.cores = 0, lambda: 2
        assert len(list(spreading.spread(len, 128, processes=True))) == 2
        multiprocessing.set_start_method("spawn")
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

"""Threads follow the cores that a process may use."""

from __future__ import annotations

import os

import pytest
import torch

from atd import threads
from atd.threads import available_cores, crowding, set_threads


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def root(tmp_path):
    def make(cgroup, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(cgroup)
        for name, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/\n", {"cpu_DOT_max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu_DOT_max": "max 100000\n"}, 16),
        ("0::/a/b\n", {"a__b__cpu_DOT_max": "max 100000", "a__cpu_DOT_max": "300000 100000"}, 3),
        ("0::/of/the/host\n", {"cpu_DOT_max": "200000 100000"}, 2),
        (
            "4:cpu,cpuacct:/job\n3:memory:/job\n0::/\n",
            {
                "cpu__job__cpu_DOT_cfs_quota_us": "50000",
                "cpu__job__cpu_DOT_cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            "4:cpu:/\n",
            {"cpu__cpu_DOT_cfs_quota_us": "-1", "cpu__cpu_DOT_cfs_period_us": "100000"},
            16,
        ),
        ("nonsense", {"cpu_DOT_max": "nonsense"}, 16),
    ],
)
def test_the_least_of_affinity_and_quotas_counts(root, cgroup, files, cores):
    assert available_cores(root(cgroup, **files)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path, monkeypatch):
    assert available_cores(tmp_path) == 16
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores(tmp_path) == os.cpu_count()


@pytest.mark.parametrize(("cores", "beside", "expected"), [(0.5, 1, 1), (2.9, 1, 2), (4, 2, 2)])
def test_auto_takes_no_more_than_there_are_cores(monkeypatch, cores, beside, expected):
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    assert set_threads() == expected == torch.get_num_threads()


def test_the_environment_wins_over_auto_and_the_option_over_both(monkeypatch):
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert set_threads() == 3
    assert set_threads(2) == 2


def test_crowding_is_said_and_changes_nothing(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    slow = {1: 0.01, 2: 0.2}
    monkeypatch.setattr(threads, "_seconds", lambda: slow[torch.get_num_threads()])
    assert "20.0 times as fast as the 2 in use. Stop" in crowding()
    assert torch.get_num_threads() == 2
    slow[2] = 0.012
    assert crowding() == ""
    torch.set_num_threads(1)
    monkeypatch.setattr(threads, "_seconds", lambda: pytest.fail("timed without need"))
    assert crowding() == ""


def test_timing_draws_nothing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert 0 < threads._seconds() < 60
    assert torch.equal(torch.get_rng_state(), before)


def test_commands_set_the_threads(tiny_yaml, tmp_path, monkeypatch):
    from atd.commands import train

    words = ["train.py", "--config", str(tiny_yaml), "--dry-run", "run.threads=2"]
    monkeypatch.setattr("sys.argv", [*words, f"run.dir={tmp_path / 'run'}"])
    monkeypatch.setattr("atd.outlook.plan_of", lambda _: [str(torch.get_num_threads())])
    monkeypatch.setattr("builtins.print", lambda *_: None)
    train._main()
    assert torch.get_num_threads() == 2

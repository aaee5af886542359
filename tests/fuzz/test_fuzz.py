"""A small seeded sample of hostile input; the whole table is made by `python -m tests.fuzz`."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atd.errors import UserError
from tests.fuzz.__main__ import main
from tests.fuzz.bench import TARGETS, Result, run_target, shares
from tests.fuzz.guards import Outcome
from tests.fuzz.mutations import damaged_bytes, damaged_value
from tests.fuzz.table import summary

SAMPLE = 200


def test_a_sample_of_hostile_inputs_ends_in_clean_errors(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.fuzz", "--cases", str(SAMPLE), "--seed", "7"])
    code, told = main(), capsys.readouterr().out
    assert code == 0, told
    row = told.strip().splitlines()[-1].split(" | ")
    assert row[0] == "| all"
    assert sum(map(int, row[2:4])) == int(row[1]) >= SAMPLE - len(TARGETS)


def sleeping() -> object:
    time.sleep(60)
    return None


def spinning() -> object:
    while True:
        pass


def greedy() -> object:
    return bytearray(3 * 2**30)


def careless() -> object:
    return {}["key"]


def polite() -> object:
    raise UserError("x.yaml: no such file")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (lambda: 3, "fine"),
        (polite, "clean error"),
        (careless, "crash"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "crash"),
        (lambda: os._exit(0), "crash"),
        (greedy, "over-allocation"),
        (spinning, "hang"),
        (sleeping, "hang"),
        (lambda: os.system("true"), "execution"),
        (lambda: subprocess.run(["true"]), "execution"),
        (lambda: Path("/tmp/atd-fuzz-elsewhere").write_text("x"), "execution"),
        (lambda: os.environ["ATD_FUZZ_SECRET"], "execution"),
        (lambda: Path("/canary").read_text(), "execution"),
        (lambda: importlib.import_module("canary"), "execution"),
    ],
)
def test_the_guards_see_what_they_are_for(case, kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tests.fuzz.guards.CPU_SECONDS", 0.2)
    monkeypatch.setattr("tests.fuzz.guards.WALL_SECONDS", 1.0)
    monkeypatch.setitem(TARGETS, "this", (lambda *_: case, 1.0))
    result = run_target("this", range(2), 0, tmp_path)
    assert [outcome.kind for outcome in result.outcomes.values()] == [kind] * 2
    assert bool(result.faults()) == (kind not in ("fine", "clean error"))


def test_a_file_inside_the_scratch_folder_may_be_written(tmp_path, monkeypatch) -> None:
    case = (tmp_path / "x").touch
    monkeypatch.setitem(TARGETS, "this", (lambda *_: case, 1.0))
    assert run_target("this", range(1), 0, tmp_path).outcomes == {0: Outcome("fine")}


def test_damage_is_the_same_for_the_same_seed_and_leaves_the_original() -> None:
    value, content = {"a": [1, {"b": "c"}], "d": None}, b"some bytes"
    trees = [repr(damaged_value(random.Random(seed), value)) for seed in range(50)]
    assert trees == [repr(damaged_value(random.Random(seed), value)) for seed in range(50)]
    assert value == {"a": [1, {"b": "c"}], "d": None}
    assert sum(tree != repr(value) for tree in trees) > 40
    files = {damaged_bytes(random.Random(seed), content) for seed in range(50)}
    assert len(files) > 40


def test_the_table_adds_up() -> None:
    results = {"x": Result({0: Outcome("fine"), 1: Outcome("hang")}), "y": Result()}
    assert summary(results)[-1] == "| all | 2 | 0 | 1 | 0 | 1 | 0 | 0 |"
    assert abs(sum(shares(10_000, None).values()) - 10_000) <= len(TARGETS)

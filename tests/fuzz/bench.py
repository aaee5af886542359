"""Runs the cases of one kind of input in children, and goes on where one dies."""

from __future__ import annotations

import collections
import json
import os
import random
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.folders import a_config_json, a_state_dict, a_weight_file
from tests.fuzz.guards import KINDS, WALL_SECONDS, Guard, Outcome
from tests.fuzz.names import a_result_file, hostile_names
from tests.fuzz.pictures import an_image, scored_names
from tests.fuzz.runs import a_run_folder, a_score_file, an_image_list
from tests.fuzz.words import a_command, a_config_file, a_record, an_override

Maker = Callable[[random.Random, Path], Callable[[], object]]

TARGETS: dict[str, tuple[Maker, float]] = {
    "words of the command line": (an_override, 0.19),
    "command lines of train.py": (a_command, 0.01),
    "config files": (a_config_file, 0.1),
    "stored options": (a_record, 0.05),
    "config.json of detectors": (a_config_json, 0.15),
    "weights of detectors": (a_weight_file, 0.1),
    "state dicts for backbone.weights": (a_state_dict, 0.05),
    "image files": (an_image, 0.2),
    "names of scored files": (scored_names, 0.05),
    "image lists and sources": (an_image_list, 0.05),
    "run folders": (a_run_folder, 0.05),
    "score files": (a_score_file, 0.02),
    "results.json": (a_result_file, 0.05),
    "names in reports": (hostile_names, 0.03),
}
"""What makes a case of each kind of input, and its share of all cases."""

_UNMADE = 3
_BLOCKED = "blocks the whole process"


@dataclass
class Result:
    """How the cases of one kind of input ended."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Cases by kind of end."""
        found = collections.Counter(outcome.kind for outcome in self.outcomes.values())
        return {kind: found[kind] for kind in KINDS}

    def faults(self) -> list[str]:
        """The cases that were more than an error message, each kind of note once."""
        notes: dict[str, list[int]] = collections.defaultdict(list)
        for index, outcome in self.outcomes.items():
            if outcome.kind not in ("clean error", "fine"):
                notes[f"{outcome.kind}: {outcome.note[:160]}"].append(index)
        return [f"case {cases[0]} ({len(cases)} alike): {note}" for note, cases in notes.items()]


def shares(cases: int, only: list[str] | None) -> dict[str, int]:
    """How many cases each kind of input gets."""
    chosen = {name: part for name, (_, part) in TARGETS.items() if not only or name in only}
    total = sum(chosen.values())
    return {name: round(cases * part / total) for name, part in chosen.items()}


def run_target(name: str, cases: range, seed: int, scratch: Path, *, debug: bool = False) -> Result:
    """Runs cases in a child; after one that kills or blocks it, in the next child."""
    result, since = Result(), time.monotonic()
    todo = list(cases)
    while todo:
        done = _run_child(name, todo, seed, scratch, debug)
        result.outcomes |= done
        todo = todo[len(done) :]
    result.seconds = time.monotonic() - since
    return result


def _run_child(
    name: str, todo: list[int], seed: int, scratch: Path, debug: bool
) -> dict[int, Outcome]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _work(name, todo, seed, scratch, writing, debug)
        except BaseException:
            os._exit(_UNMADE)
        os._exit(0)
    os.close(writing)
    done: dict[int, Outcome] = {}
    with os.fdopen(reading, "rb") as stream:
        while len(done) < len(todo):
            if not select.select([stream], [], [], 2 * WALL_SECONDS)[0]:
                os.kill(child, signal.SIGKILL)
                done[todo[len(done)]] = Outcome("hang", _BLOCKED)
                break
            line = stream.readline()
            if not line:
                break
            index, kind, note = json.loads(line)
            done[index] = Outcome(kind, note)
    status = os.waitpid(child, 0)[1]
    blocked = any(outcome.note == _BLOCKED for outcome in done.values())
    if status == _UNMADE << 8:
        raise RuntimeError(f"{name}: case {todo[len(done)]} cannot be made")
    if len(done) < len(todo) and not blocked:
        done[todo[len(done)]] = Outcome("crash", f"ends the process (status {status})")
    return done


def _work(name: str, todo: list[int], seed: int, scratch: Path, writing: int, debug: bool) -> None:
    import traceback

    make = TARGETS[name][0]
    guard = Guard(scratch)
    null = os.open(os.devnull, os.O_WRONLY)
    if not debug:
        os.dup2(null, 1)
        os.dup2(null, 2)
    for index in todo:
        case = make(random.Random(f"{seed}/{name}/{index}"), scratch)
        if debug:
            try:
                print(case())
            except BaseException:
                traceback.print_exc()
        outcome = guard.attempt(case)
        line = json.dumps([index, outcome.kind, outcome.note]) + "\n"
        os.write(writing, line.encode())

"""Throughput of one process, two processes and two separate jobs, turn by turn."""

from __future__ import annotations

from typing import Any

from benchmarks.scaling.tasks import WorkSize
from benchmarks.scaling.team import Team
from benchmarks.timing import Spread, ratios

__all__ = ["NAMES", "throughput"]

NAMES = ("hat_ghosts", "hat", "atd", "evaluation")
_SIDES = ("one", "two", "separate")


def throughput(size: WorkSize, batch: int, rounds: int) -> dict[str, Any]:
    """Times each kind of work on one global batch by one process and by two.

    Two separate jobs of one process, each with half of the batch and without any exchange, run at
    the same time: what they reach is all that the machine's two cores have to give.

    Args:
        size: The work of a step.
        batch: Images per step over all processes; even.
        rounds: Rounds of one, two, separate; an untimed one comes before.

    Returns:
        For each of `NAMES`: images per second of `one`, `two` and `separate` (spreads), `speedup`
        and `of_separate` (spreads of the ratios of each round), `cpu` seconds of all processes of
        a side, and what `two` exchanged; and under `reduce` the averaging of gradients by itself.
    """
    first, second, two = Team(1, size), Team(1, size), Team(2, size)
    try:
        found = {}
        for name in NAMES:
            done = [_round(name, batch, first, second, two) for _ in range(rounds + 1)][1:]
            found[name] = _summary(done)
        found["reduce"] = {name: two.do(f"reduce-{name}", batch) for name in NAMES[:-1]}
        return found
    finally:
        for team in (first, second, two):
            team.close()


def _round(name: str, batch: int, first: Team, second: Team, two: Team) -> dict[str, Any]:
    """What each side answered: the slowest process, and the CPU time of all."""
    alone, together = first.do(name, batch), two.do(name, batch)
    for team in (first, second):
        team.start(name, batch // 2)
    halves = [team.finish() for team in (first, second)]
    separate = max(halves, key=lambda answer: answer["seconds"])
    separate |= {"cpu": sum(half["cpu"] for half in halves), "images": alone["images"]}
    return {"one": alone, "two": together, "separate": separate}


def _summary(done: list[dict[str, Any]]) -> dict[str, Any]:
    rates = {
        side: [turn[side]["images"] / turn[side]["seconds"] for turn in done] for side in _SIDES
    }
    exchanges, seconds = done[-1]["two"]["exchanges"], done[-1]["two"]["seconds"]
    return {
        **{side: Spread.of(values).record() for side, values in rates.items()},
        # Rates, not times: the later one is the dividend.
        "speedup": Spread.of(ratios(rates["two"], rates["one"])).record(),
        "of_separate": Spread.of(ratios(rates["two"], rates["separate"])).record(),
        "cpu": {side: Spread.of([turn[side]["cpu"] for turn in done]).median for side in _SIDES},
        "exchanges": {**exchanges, "share": exchanges["seconds"] / seconds},
    }

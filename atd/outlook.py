"""What a run would do and about how long it takes, in lines for a person."""

from __future__ import annotations

import contextlib
import os
import sys

import torch

from atd.config import Config, to_yaml
from atd.errors import UserError
from atd.pipeline import stages_of
from atd.planning.forecast import forecast, words
from atd.planning.plan import needs_outliers
from atd.rehearsal import rehearse
from atd.run_folder import RunFolder
from atd.run_state import RunState, describe
from atd.threads import set_threads
from atd.training.loop import is_finished
from atd.training.processes import Processes

__all__ = ["estimate", "plan_of", "tell"]


def tell(config: Config) -> None:
    """Prints the options and what a run would do with them, or ends as the run would.

    Args:
        config: All options.

    Raises:
        UserError: As far as that shows without training, the one that the run would end with.
    """
    set_threads(config.run.threads)
    processes = Processes(config.run.device, config.run.timeout_minutes)
    run = RunState(config, processes)
    lines = [f"# {line}" for line in (*plan_of(run.config), *run.reasons)]
    if processes.is_main:
        print(to_yaml(run.config))
    if not run.folder.is_finished(run.config):
        with contextlib.redirect_stdout(sys.stderr):  # what is said on the way is no option
            rehearse(run)
    if run.splits is not None:
        lines += [f"# {line}" for line in describe(run.splits).splitlines()]
    if processes.is_main:
        print("\n".join(lines))
    processes.close()


def estimate(config: Config) -> None:
    """Tells how long a new run will take, where that may be long: by one process on the CPU."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1" and not config.run.device_batch
    if not alone or (torch.cuda.is_available() and config.run.device != "cpu"):
        return
    with torch.random.fork_rng(devices=[]):  # it draws and seeds
        print("\n".join(plan_of(config)[3:]), flush=True)


def plan_of(config: Config) -> list[str]:
    """What a run with these options would do, a line for each stage, and about how long it takes.

    Args:
        config: All options.
    """
    stages = stages_of(config)
    state = RunFolder(config.run.folder).state
    try:
        done = {stage.name for stage in stages if is_finished(state, stage.name)}
    except UserError:
        done = set()
    lines = [f"run folder: {config.run.folder}", f"ID images: {config.data.id}"]
    outliers = config.data.outliers or "the offline fallback and altered ID images"
    unread = "none, for nothing here learns from them"
    lines.append(f"outliers: {outliers if needs_outliers(config) else unread}")
    try:
        expected = forecast(config)
        total = sum(value.seconds for name, value in expected.items() if name not in done)
        last = (
            f"in all: about {words(total)}, and {_memory():.1f} GB of memory beside the images, "
            "on this machine, as busy as it is now, by a few timed steps; reading the images "
            "comes on top"
        )
    except UserError as error:
        expected, last = {}, f"in all: nobody can tell yet ({error})"
    for stage in stages:
        about = str(expected.get(stage.name, ""))
        lines.append(
            f"{stage.name}: {stage.plan(config)}{', done' if stage.name in done else about}"
        )
    return [*lines, last]


def _memory() -> float:
    """The most that this process, or the device, has needed so far, in GB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

"""Tries faults on a small training, for real, and writes down what came of them.

OMP_NUM_THREADS=1 python -m tests.faults --kills 50 --output docs/faults.md
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    """Runs the harness; the exit code is 1 if anything was lost, hung or ended wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="kill -9 at random moments in all")
    parser.add_argument("--others", type=int, default=2, help="trials of every other fault")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="names in trials.FAULTS")
    parser.add_argument("--seed", type=int, default=0, help="of all random moments")
    parser.add_argument("--work", type=Path, help="scratch folder (default: a temporary one)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="also FILE.json")
    parser.add_argument("--add", action="store_true", help="to what FILE.json has already")
    given = parser.parse_args()
    # Everything a rank needs is imported once, before the forks.
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # imports half of torch's compiler
    import sklearn.metrics  # noqa: F401
    import torch.utils.tensorboard

    import atd.pipeline  # noqa: F401
    from tests.faults.bench import Bench
    from tests.faults.table import summary, write
    from tests.faults.trials import FAULTS

    since, trials = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        work = (given.work or Path(scratch)).resolve()
        bench = Bench(work, random.Random(given.seed))
        for fault, counts in FAULTS.items():
            if given.only and fault.__name__ not in given.only:
                continue
            for processes in [count for count in counts if count in given.processes]:
                share = given.kills // len(given.processes)
                wanted = share if fault.__name__ == "kill" else given.others
                done = 0
                while done < wanted and (found := fault(bench, processes)):
                    new = found if isinstance(found, list) else [found]
                    for trial in new:
                        done += 1
                        trials.append(trial)
                        print(len(trials), trial, flush=True)
    print("\n".join(summary(trials)))
    if given.output:
        seconds = time.monotonic() - since
        write(given.output, trials, seed=given.seed, seconds=seconds, add=given.add)
    return int(any(trial.hung or not trial.same or not trial.expected for trial in trials))


if __name__ == "__main__":
    raise SystemExit(main())

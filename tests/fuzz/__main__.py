"""Feeds damaged and hostile input to everything that reads it, and counts what came of it.

OMP_NUM_THREADS=1 python -m tests.fuzz --cases 10000 --output docs/fuzz.md
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    """Runs the harness; the exit code is 1 if any case was more than an error message."""
    from tests.fuzz.bench import TARGETS, run_target, shares
    from tests.fuzz.guards import scratch_folder
    from tests.fuzz.table import summary, write

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="over all kinds of input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="INPUT", choices=list(TARGETS))
    parser.add_argument("--case", type=int, help="this one alone (with --only), with its traceback")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="also FILE.json")
    given = parser.parse_args()
    since, results = time.monotonic(), {}
    with scratch_folder() as scratch:
        for name, count in shares(given.cases, given.only).items():
            cases = range(count) if given.case is None else range(given.case, given.case + 1)
            debug = given.case is not None
            results[name] = run_target(name, cases, given.seed, Path(scratch), debug=debug)
            print(name, results[name].counts(), flush=True)
            for line in results[name].faults():
                print("   ", line, flush=True)
    print("\n".join(summary(results)))
    if given.output:
        write(given.output, results, seed=given.seed, seconds=time.monotonic() - since)
    return int(any(result.faults() for result in results.values()))


if __name__ == "__main__":
    raise SystemExit(main())

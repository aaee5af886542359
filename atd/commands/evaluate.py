"""The command that judges trained detectors, clean and under attack."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from atd.commands.parser import Parser
from atd.config import load
from atd.errors import UserError, printable, run_command

__all__ = ["main"]

_EPILOG = """\
DETECTOR is a detector folder, or import:MODULE:CALLABLE for one's own. The image sets and the
attack are those in the (first) detector's record, of which nothing is downloaded, unless --config
or overrides say otherwise. No training images are needed. Several detectors are attacked alike and
put side by side.

examples:
  python evaluate.py checkpoints/digits/detector
  python evaluate.py checkpoints/digits/detector evaluate.tier=strong --output strong
  python evaluate.py checkpoints/cifar10/detector data.ood_test=[folder:my/images] --output out
  python evaluate.py checkpoints/energy/detector checkpoints/digits/detector --output both
  python evaluate.py shipped/detector --require 'both.auroc>=0.6' --require trusted
"""


def main() -> None:
    """Runs the command; exit codes 0, 1, 2, 3 and 130 as in `atd.errors.run_command`."""
    run_command(_main)


def _main() -> None:
    parser = Parser(
        prog="evaluate.py",
        usage="%(prog)s DETECTOR [DETECTOR ...] [--config FILE] [--output DIR] "
        "[--require CONDITION ...] [key=value ...]",
        description="Find out whether a detector is robust: clean, ID, OOD and both attacked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("arguments", nargs="+", metavar="DETECTOR", help="a detector folder")
    parser.add_argument("--config", metavar="FILE", help="YAML file instead of the stored options")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="report folder (default: `report` beside the detector if it tells of the same sets "
        "and attack, else one of its own there; `comparison` for several)",
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="CONDITION",
        help="e.g. both.auroc>=0.6, near.both.auroc>=0.5, SET.in.fpr95_id<0.3, "
        "threshold.tpr_attacked>=0.8, certified@0.25>=0.9, trusted; exit code 3 where the report "
        "falls short",
    )
    given = parser.parse_intermixed_args()
    overrides = [item for item in given.arguments if "=" in item and not os.path.lexists(item)]
    named = [item for item in given.arguments if item not in overrides]
    if not named:
        raise UserError("name at least one detector folder, e.g. checkpoints/digits/detector")
    _evaluate(named, overrides, given)


def _evaluate(named: list[str], overrides: list[str], given: argparse.Namespace) -> None:
    from atd.assessment import assess
    from atd.evaluation.candidates import load_candidates
    from atd.evaluation.record import may_download, recorded_config, refuse_training_options
    from atd.evaluation.requirements import parse_conditions, unmet_by_any
    from atd.threads import set_threads
    from atd.training.contact import in_contact
    from atd.training.processes import Processes

    conditions = parse_conditions(given.require)
    refuse_training_options(overrides)
    candidates = load_candidates(named, overrides)
    config = (
        load(given.config, overrides)
        if given.config
        else recorded_config(candidates.first, named[0], overrides)
    )
    config = candidates.fitted(config)
    candidates.claim(given.output, config)
    downloads = may_download(given.config, overrides)
    set_threads(config.run.threads)
    source = ["--config", given.config] if given.config else []
    command = shlex.join(["python", "evaluate.py", *named, *source, *overrides])
    processes = Processes(config.run.device, config.run.timeout_minutes)
    with in_contact(processes, lambda: "the evaluation"):
        found = assess(
            candidates, config, processes, conditions, downloads=downloads, command=command
        )
        processes.close()
    if lines := unmet_by_any(conditions, [item.results for item in found]):
        print("\n".join(f"not met: {printable(line)}" for line in lines), file=sys.stderr)
        raise SystemExit(3)


if __name__ == "__main__":
    main()

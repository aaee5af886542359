"""The command that goes from images to a trained, evaluated and reported detector."""

from __future__ import annotations

import argparse
import os
import sys

from atd.commands.parser import Parser
from atd.config import Config, load
from atd.detectors.kinds import resolved
from atd.errors import run_command

__all__ = ["main"]

_EPILOG = """\
Runs every stage that has not finished yet; the same command again resumes. Without --config,
the bundled handwritten digits: offline, on the CPU, in under 3 minutes.

examples:
  python train.py
  python train.py --config configs/folder.yaml data.id=folder:photos run.name=photos
  python train.py --config configs/cifar10_small.yaml atd.epsilon=2/255 --dry-run
  python train.py detector.kind=energy detector.temperature=2 \\
      backbone.weights=checkpoints/digits/detector run.name=energy
  torchrun --nproc-per-node 2 train.py --config configs/cifar10.yaml
"""


def main() -> None:
    """Runs the command; exit codes 0, 1, 2 and 130 as in `atd.errors.run_command`."""
    run_command(_main)


def _main() -> None:
    parser = Parser(
        prog="train.py",
        description="Train an OOD detector that stays right when someone perturbs the input.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved options, the plan and about how long it takes, try what needs no "
        "training, then stop",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. atd.epsilon=8/255")
    arguments = parser.parse_intermixed_args()
    config = resolved(load(arguments.config, arguments.overrides))
    if arguments.dry_run:
        from atd.outlook import tell

        tell(config)
    else:
        _train(config)


def _train(config: Config) -> None:
    # Imported here so that --help and a typo answer at once.
    from atd.planning.recall import recalled
    from atd.run_folder import RunFolder

    folder, first = RunFolder(config.run.folder), os.environ.get("RANK", "0") == "0"
    if folder.was_finished(recalled(config) or config):
        problem = folder.problem()
        if not problem:
            if first:
                print(f"{folder.path} is finished; its report is {folder.report / 'report.md'}")
                if lost := folder.lost_history():
                    print(f"{lost}; the log of a training is not made again", file=sys.stderr)
            return
        if first:
            print(f"{problem}; it is made again, from what was trained")
    from atd.outlook import estimate
    from atd.pipeline import Run
    from atd.reporting.report import summary_table
    from atd.threads import crowding, set_threads
    from atd.training.processes import Processes

    set_threads(config.run.threads)
    if first and (notice := crowding()):
        print(notice)
    goes_on = folder.config.exists()
    processes = Processes(config.run.device, config.run.timeout_minutes)
    run = Run(config, processes)
    if not goes_on and not run.config.run.budget:  # a plan tells it too
        estimate(run.config)
    results = run.execute()
    if processes.is_main:
        print(summary_table(results))
        print(f"detector: {folder.detector}\nreport:   {folder.report / 'report.md'}")
    processes.close()


if __name__ == "__main__":
    main()

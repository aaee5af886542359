"""The command that judges trained detectors, clean and under attack."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from atd.config import Config, load, restore
from atd.errors import UserError, run_command

if TYPE_CHECKING:  # the commands answer a typo before torch is loaded
    from atd.detectors.base import Detector
    from atd.training.processes import Processes

__all__ = ["main"]

_EPILOG = """\
The image sets and the attack are those the (first) detector was trained with, unless --config or
overrides say otherwise. Several detectors are attacked alike and put side by side.

examples:
  python evaluate.py checkpoints/digits/detector
  python evaluate.py checkpoints/digits/detector evaluate.tier=strong
  python evaluate.py checkpoints/cifar10/detector data.ood_test=[folder:my/images] --output out
  python evaluate.py checkpoints/mine/detector checkpoints/digits/detector --output both
"""


def main() -> None:
    """Runs the command; exit codes 0, 1, 2 and 130 as in `atd.errors.run_command`."""
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        usage="%(prog)s DETECTOR [DETECTOR ...] [--config FILE] [--output DIR] [key=value ...]",
        description="Find out whether a detector is robust: clean, ID, OOD and both attacked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("arguments", nargs="+", metavar="DETECTOR", help="a detector folder")
    parser.add_argument("--config", metavar="FILE", help="YAML file instead of the stored options")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="report folder (default: `report` beside the detector, `comparison` for several)",
    )
    given = parser.parse_intermixed_args()
    overrides = [item for item in given.arguments if "=" in item and not os.path.exists(item)]
    folders = [Path(item) for item in given.arguments if item not in overrides]
    if not folders:
        raise UserError("name at least one detector folder, e.g. checkpoints/digits/detector")
    beside = folders[0].resolve().parent / "report"
    output = Path(given.output or ("comparison" if len(folders) > 1 else beside))
    _evaluate(folders, given.config, overrides, output)


def _evaluate(
    folders: list[Path], config_file: str | None, overrides: list[str], output: Path
) -> None:
    from atd.judging import claim_report, load_detectors, require_fit
    from atd.training.contact import in_contact
    from atd.training.processes import Processes

    detectors, paths = load_detectors(folders)
    first = next(iter(detectors.values()))
    stored = (first.config.training, str(folders[0] / "config.json"))
    config = load(config_file, overrides) if config_file else restore(*stored, overrides)
    several = len(folders) > 1
    reports = {name: output / name if several else output for name in detectors}
    for name, detector in detectors.items():
        require_fit(detector, config, paths[name])
        claim_report(reports[name], detector, name, paths[name])
    processes = Processes(config.run.device, config.run.timeout_minutes)
    with in_contact(processes, lambda: "the evaluation"):
        _judge(detectors, paths, config, processes, reports, output)
        processes.close()


def _judge(
    detectors: dict[str, Detector],
    paths: dict[str, Path],
    config: Config,
    processes: Processes,
    reports: dict[str, Path],
    output: Path,
) -> None:
    """Evaluates the detectors, writes their reports and says what came out."""
    from atd.data.splits import load_splits
    from atd.evaluation.settings import settings_from
    from atd.judging import compare, judge
    from atd.reporting.comparison import comparison_table, write_comparison
    from atd.reporting.report import summary_table, write_report

    for detector in detectors.values():
        detector.to(processes.device)
    settings = settings_from(
        config,
        device=processes.device,
        accelerator=processes.accelerator,
        cache=output / "scores",
        progress=processes.is_main,
    )
    with processes.accelerator.main_process_first():  # it downloads what is missing
        splits = load_splits(config)
    several = len(detectors) > 1
    if several:
        found = compare(detectors, paths, splits, settings, config)
    else:
        ((name, detector),) = detectors.items()
        # Fine-tuning leaves the classifier head behind, so its baselines would be unfair.
        backbone = None if config.atd.finetune else detector.backbone
        found = [judge(detector, backbone, splits, settings, config, paths[name])]
    if processes.is_main:
        for evaluation, report in zip(found, reports.values(), strict=True):
            print(f"report: {write_report(evaluation, report)}")
        if several:
            print(f"comparison: {write_comparison(found, output)}")
        print(comparison_table(found) if several else summary_table(found[0].results))


if __name__ == "__main__":
    main()

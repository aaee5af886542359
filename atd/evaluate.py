"""The command that judges a trained detector, clean and under attack."""

from __future__ import annotations

import argparse
from pathlib import Path

from atd.config import Config, load, restore
from atd.errors import UserError, run_command

__all__ = ["main"]

_EPILOG = """\
The image sets and the attack are those the detector was trained with, unless --config or
overrides say otherwise.

examples:
  python evaluate.py checkpoints/digits/detector
  python evaluate.py checkpoints/digits/detector evaluate.tier=standard evaluate.epsilon=0.15
  python evaluate.py checkpoints/cifar10/detector data.ood_test=[folder:my/images] --output out
"""


def main() -> None:
    """Runs the command; exit codes 0, 1, 2 and 130 as in `atd.errors.run_command`."""
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Find out whether a detector is robust: clean, ID, OOD and both attacked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("detector", metavar="DETECTOR", help="a detector folder")
    parser.add_argument("--config", metavar="FILE", help="YAML file instead of the stored options")
    parser.add_argument(
        "--output", metavar="DIR", help="report folder (default: `report` beside the detector)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. evaluate.limit=200")
    arguments = parser.parse_intermixed_args()
    folder = Path(arguments.detector)
    output = Path(arguments.output) if arguments.output else folder.resolve().parent / "report"
    _evaluate(folder, arguments.config, arguments.overrides, output)


def _evaluate(folder: Path, config_file: str | None, overrides: list[str], output: Path) -> None:
    from atd.data.splits import load_splits
    from atd.evaluation.report import summary_table, write_report
    from atd.evaluation.settings import settings_from
    from atd.models.detector import Detector
    from atd.pipeline import judge, limited
    from atd.training.processes import Processes

    detector = Detector.from_pretrained(folder)
    if config_file:
        config = load(config_file, overrides)
    else:
        config = restore(detector.config.training, str(folder / "config.json"), overrides)
    _require_fit(detector.config.image_size, detector.config.channels, config, folder)
    processes = Processes(config.run.device)
    detector.to(processes.device)
    settings = settings_from(
        config,
        device=processes.device,
        accelerator=processes.accelerator,
        cache=output / "scores",
        progress=processes.is_main,
    )
    splits = limited(load_splits(config), config.evaluate.limit, config.run.seed)
    # Fine-tuning leaves the classifier head behind, so its baselines would be unfair.
    backbone = None if config.atd.finetune else detector.backbone
    evaluation = judge(detector, backbone, splits, settings, config, folder)
    if processes.is_main:
        write_report(evaluation, output)
        print(summary_table(evaluation.results))
        print(f"report: {output / 'report.md'}")
    processes.close()


def _require_fit(image_size: int, channels: int, config: Config, folder: Path) -> None:
    for key, wanted, given in (
        ("data.image_size", image_size, config.data.image_size),
        ("data.channels", channels, config.data.channels),
    ):
        if wanted != given:
            raise UserError(f"{key}={given}: the detector in {folder} takes {wanted}")


if __name__ == "__main__":
    main()

"""Command `python -m atd.calibrate DETECTOR --id IMAGES`: a threshold from one's own images."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from atd.commands.parser import Parser
from atd.errors import UserError, printable, run_command

__all__ = ["main"]

_EPILOG = """\
Nothing is trained. One more image like the given ones is accepted with a chance of at least the
share (caught, with --catch), whatever the detector, on average over calibrations. The scores of the
ID images are kept in the folder, for p-values (atd.score --p-values) and to notice drift. Files
that were exported before keep the former threshold.

examples:
  python -m atd.calibrate checkpoints/digits/detector --id my/images --accept 0.99
  python -m atd.calibrate checkpoints/digits/detector --id my/images --ood other/images --catch 0.95
  python -m atd.calibrate checkpoints/digits/detector --id my/images --attacked
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="atd-calibrate",
        description="Sets the threshold of a detector from images of one's own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("detector", metavar="DETECTOR", help="a detector folder; its threshold is replaced")
    named = "files, folders, or - for names on standard input"
    images: dict[str, Any] = {"nargs": "+", "default": (), "metavar": "IMAGES"}
    add("--id", help=f"images that are to be accepted: {named}", **images)
    add("--ood", help="images that are to be caught, likewise", **images)
    add("--accept", type=float, metavar="SHARE", help="of ID images (default: 0.95)")
    add("--catch", type=float, metavar="SHARE", help="of OOD images, instead of --accept")
    attacked = "the share holds under the attack that the detector was evaluated with"
    add("--attacked", action="store_true", help=attacked)
    keep = "ID images kept small in the folder, to show beside suspicious ones (%(default)s)"
    add("--keep-images", type=int, default=200, metavar="N", help=keep)
    add("-0", "--null", action="store_true", help="names in - end with NUL")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    threads = "default: as many as there are cores"
    add("--threads", type=int, default=0, metavar="N", help=threads)
    return parser


def _run(given: argparse.Namespace) -> None:
    from atd.deciding.order import CalibrateOrder

    order = CalibrateOrder(**vars(given))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("python -m atd.calibrate: runs in one process; start it without a launcher")
    from atd.deciding.run import calibrate

    for line in calibrate(order):
        print(printable(line))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        arguments: Words of the command line; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

"""Command `python -m atd.score DETECTOR IMAGES...`: a score for every image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from atd.commands.parser import Parser
from atd.errors import UserError, run_command

__all__ = ["main"]

_EPILOG = """\
Columns: path, score, is_ood (score above the threshold; empty without one), p_value (--p-values)
and error. An image without a score has is_ood=true and the reason in its row. Under torchrun the
processes share the work, and the first one writes. With --output, the same command goes on after
a kill.

A p-value tells how unusual an image is among the calibration images: of ID images like those, at
most a share A has a p-value of at most A, whatever the detector, on average over calibrations.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="atd-score",
        description="Scores images; larger = more likely out-of-distribution.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("detector", metavar="DETECTOR", help="a detector folder")
    names = "image files, folders (searched through), or - for their names on standard input"
    add("images", metavar="IMAGES", nargs="+", help=names)
    add("-0", "--null", action="store_true", help="names in - end with NUL")
    add("--format", choices=("csv", "jsonl"), help="default: by the name of --output, else csv")
    add("--output", metavar="FILE", help="default: standard output")
    add("--threshold", metavar="X", help="instead of the detector's own")
    add("--p-values", action="store_true", help="add conformal p-values (see below)")
    add("--watch", action="store_true", help="go on with names, or files in folders, as they come")
    every = "tell drift every N images, not only at the end (with --watch: 1000)"
    add("--every", type=int, default=0, metavar="N", help=every)
    explain = "put the N most suspicious images on one page, each with its gradient map and the "
    explain += "nearest calibration images"
    add("--explain", type=int, default=0, metavar="N", help=explain)
    add("--page", metavar="FILE", help="that page (suspicious.html)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    threads = "default: as many as there are cores"
    add("--threads", type=int, default=0, metavar="N", help=threads)
    either = parser.add_mutually_exclusive_group()
    strict, skip = "stop at the first image that cannot be read", "leave such images out, counted"
    to: dict[str, Any] = {"dest": "unreadable", "default": "row"}
    either.add_argument("--strict", action="store_const", const="error", help=strict, **to)
    either.add_argument("--skip-unreadable", action="store_const", const="skip", help=skip, **to)
    return parser


def _run(given: argparse.Namespace) -> None:
    from atd.scoring.order import ScoreOrder
    from atd.scoring.run import score_images

    if given.page is not None and not given.explain:
        raise UserError("--page goes with --explain N: say how many images it is to show")
    given.page = given.page or "suspicious.html"
    if given.format is None:
        given.format = "jsonl" if (given.output or "").endswith(".jsonl") else "csv"
    score_images(ScoreOrder(**vars(given)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        arguments: Words of the command line; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

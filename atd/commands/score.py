"""Command `python -m atd.score DETECTOR IMAGES...`: a score for every image."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from atd.errors import UserError, run_command

if TYPE_CHECKING:
    from atd.data.remarks import Remarks
    from atd.detectors.streaming import FileScore, Unreadable
    from atd.training.processes import Processes

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="atd-score",
        description="Scores images; larger = more likely out-of-distribution.",
        epilog="Columns: path, score, is_ood (score above the threshold; empty without one) and "
        "error. An image without a score has is_ood=true and the reason in its row. Under torchrun "
        "the processes share the work, and the first one writes.",
    )
    parser.add_argument("detector", metavar="DETECTOR", help="a detector folder")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="image files, folders (searched through), or - for their names on standard input",
    )
    parser.add_argument("-0", "--null", action="store_true", help="names in - end with NUL")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    parser.add_argument("--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--threshold", metavar="X", help="instead of the detector's own")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="default: as many as there are cores"
    )
    unreadable = parser.add_mutually_exclusive_group()
    unreadable.add_argument(
        "--strict", action="store_true", help="stop at the first image that cannot be read"
    )
    unreadable.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read, with a count",
    )
    return parser


@contextlib.contextmanager
def _destination(output: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears only once it is complete."""
    from atd.files import replacing

    if output is None:
        with contextlib.suppress(AttributeError):  # replaced by something else, as in notebooks
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        with (
            replacing(Path(output)) as fresh,
            fresh.open("w", encoding="utf-8", newline="") as stream,
        ):
            yield stream
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None


def _threshold(text: str | None, stored: float | None) -> float | None:
    if text is None:
        return stored
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--threshold {text}: give a number, e.g. --threshold 0.5")
    return value


def _run(arguments: argparse.Namespace) -> None:
    from atd.data.given import given_images, require_given
    from atd.data.listing import LeftOut
    from atd.data.reading import notice
    from atd.reporting.score_rows import write_rows
    from atd.threads import set_threads

    if not 0 <= arguments.threads <= 4096:
        raise UserError(f"--threads {arguments.threads}: give a number from 1 to 4096, or 0")
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:  # before the others are waited for
        require_given(arguments.images)
        _threshold(arguments.threshold, None)
    set_threads(arguments.threads)
    left_out = LeftOut()
    paths = given_images(arguments.images, left_out, null=arguments.null)
    with contextlib.closing(_rows(arguments, paths)) as rows:
        if is_main:
            with _destination(arguments.output) as stream:
                write_rows(rows, arguments.format, stream)
        else:
            for _ in rows:
                pass
    if left_out:
        notice(f"{left_out.total} left out: {left_out}")


def _rows(arguments: argparse.Namespace, paths: Iterator[str]) -> Generator[FileScore, None, None]:
    """The rows to write; on all but the main process nothing, once the work is done."""
    from atd.data.remarks import Remarks
    from atd.detectors.base import Detector
    from atd.detectors.streaming import score_files, settle_rows

    processes, device = _processes(arguments.device)
    detector = Detector.from_pretrained(arguments.detector, device)
    threshold = _threshold(arguments.threshold, detector.threshold)
    remarks = Remarks()

    def score(some: Iterable[str], remarks: Remarks) -> Iterator[FileScore]:
        return score_files(detector, some, threshold, remarks)

    unreadable: Unreadable = "row"
    if arguments.strict or arguments.skip_unreadable:
        unreadable = "error" if arguments.strict else "skip"
    if processes is None:
        yield from settle_rows(score(paths, remarks), unreadable, remarks, detector.config.scale)
        return
    from atd.commands.together import score_together

    with contextlib.closing(score_together(processes, paths, score, remarks)) as rows:
        if processes.is_main:
            yield from settle_rows(rows, unreadable, remarks, detector.config.scale)
        else:
            yield from rows
    processes.close()


def _processes(device: str) -> tuple[Processes | None, str]:
    """All processes, where there are several, and the device of this one."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available; use --device cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from atd.training.processes import Processes

        processes = Processes(device)
        return processes, str(processes.device)
    return None, ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        arguments: Words of the command line; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

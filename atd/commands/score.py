"""Command `python -m atd.score DETECTOR IMAGES...`: a score for every image."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from atd.errors import UserError, run_command

if TYPE_CHECKING:
    from torch import Tensor

    from atd.detectors.base import Detector

__all__ = ["main"]

_BATCH = 64
_COLUMNS = ("path", "score", "is_ood")

Row = tuple[str, float, bool | None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="atd-score",
        description="Scores images; larger = more likely out-of-distribution.",
        epilog="Columns: path, score, is_ood (score above the detector's threshold; empty if it "
        "has none). One process does the work; under torchrun the others end at once.",
    )
    parser.add_argument("detector", metavar="DETECTOR", help="a detector folder")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="image files, folders (searched through), or - for paths on standard input",
    )
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    parser.add_argument("--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read, with a count, instead of stopping",
    )
    return parser


def _find(names: Sequence[str]) -> list[str]:
    """Paths of all images in the order given; a folder's are sorted."""
    from atd.data.listing import list_images

    paths: list[str] = []
    for name in names:
        if name == "-":
            paths += _find([line for text in sys.stdin if (line := text.rstrip("\r\n"))])
        elif Path(name).is_dir():
            found = list_images(Path(name))
            if not found:
                raise UserError(f"{name}: no images in this folder")
            paths += [str(Path(name) / file) for file in found]
        elif Path(name).is_file():
            paths.append(name)
        else:
            raise UserError(f"{name}: no such file or folder")
    return paths


def _rows(detector: Detector, paths: Sequence[str], skip: bool) -> Iterator[Row]:
    import torch
    from tqdm import tqdm

    read = _reader(detector.config.channels, detector.config.image_size, skip)
    limit = detector.threshold
    skipped = 0
    bar = tqdm(total=len(paths), unit="img", delay=1, leave=False, disable=None)
    with bar, ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            images = enumerate(pool.map(read, batch))
            readable = {row: image for row, image in images if image is not None}
            skipped += len(batch) - len(readable)
            if readable:
                scores = detector.score(torch.stack(list(readable.values())))
                flags = [None] * len(scores) if limit is None else (scores > limit).tolist()
                for row, score, is_ood in zip(readable, scores.tolist(), flags, strict=True):
                    yield batch[row], score, is_ood
            bar.update(len(batch))
    if skipped:
        print(f"{skipped} unreadable image(s) left out", file=sys.stderr)


def _reader(channels: int, size: int, skip: bool) -> Callable[[str], Tensor | None]:
    from atd.data.decoding import UnreadableImage
    from atd.data.reading import FilePixels

    def read(path: str) -> Tensor | None:
        try:
            return FilePixels([path], channels, size).fetch([0])[0]
        except UnreadableImage as error:
            if skip:
                return None
            reason = str(error).partition("; ")[0]
            raise UserError(f"{reason}; leave it out, or use --skip-unreadable") from None

    return read


def _write(rows: Iterator[Row], kind: str, stream: TextIO) -> None:
    table = csv.writer(stream, lineterminator="\n")
    if kind == "csv":
        table.writerow(_COLUMNS)
    for path, score, is_ood in rows:
        value = float(f"{score:.9g}")  # float32, exactly
        if kind == "csv":
            table.writerow([path, value, "" if is_ood is None else str(is_ood).lower()])
        else:
            line = dict(zip(_COLUMNS, (path, value, is_ood), strict=True))
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _destination(output: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears only once it is complete."""
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    fresh = Path(output + ".tmp")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        os.replace(fresh, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _run(arguments: argparse.Namespace) -> None:
    if os.environ.get("RANK", "0") != "0":
        return
    import torch

    from atd.detectors.base import Detector

    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    detector = Detector.from_pretrained(arguments.detector, device)
    paths = _find(arguments.images)
    if not paths:
        raise UserError("no images given")
    with _destination(arguments.output) as stream:
        _write(_rows(detector, paths, arguments.skip_unreadable), arguments.format, stream)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        arguments: Words of the command line; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

"""Scores any number of image files, in their order and at constant memory."""

from __future__ import annotations

import collections
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from atd.data.decoding import UnreadableImage, read_image
from atd.data.reading import notice
from atd.data.remarks import Remarks, collecting
from atd.data.spreading import cores
from atd.detectors.base import Detector
from atd.errors import UserError, printable

__all__ = ["BATCH", "FileScore", "Unreadable", "score_files", "settle_rows"]

Unreadable = Literal["row", "skip", "error"]

BATCH = 256
"""Images that are scored at once."""
_PART = 16
"""Images of a batch that one thread reads."""
_AHEAD = 2
"""Batches that are being read while one is scored."""


@dataclass(frozen=True)
class FileScore:
    """What is known of one image file.

    Attributes:
        path: The file.
        score: Larger = more likely OOD; None where there is none.
        error: Why there is no score, else empty.
        readable: Whether the file could be decoded.
        is_ood: Whether it is out-of-distribution; None as long as nobody has decided.
        p_value: How unusual it is, see `atd.order_statistics.PValues`; None where not asked for.
    """

    path: str
    score: float | None
    error: str = ""
    readable: bool = True
    is_ood: bool | None = None
    p_value: float | None = None


def score_files(
    detector: Detector, paths: Iterable[str | None], remarks: Remarks
) -> Generator[FileScore, None, None]:
    """Scores files one batch after the other, reading ahead.

    Args:
        detector: The detector.
        paths: The files; any number. None says that no more are there for the moment, so that
            those before it are not kept waiting for a whole batch.
        remarks: Takes in what is noticed about the images.

    Yields:
        A row for each file, in order.
    """
    for batch, images in _read_ahead(detector, paths, remarks):
        yield from _score_batch(detector, batch, images)


def settle_rows(
    rows: Iterable[FileScore], unreadable: Unreadable, remarks: Remarks, scale: str
) -> Iterator[FileScore]:
    """Passes rows on, decides on unreadable images, and tells the counts at the end.

    What was noticed is told where the rows are broken off as well: whoever goes on from those that
    were kept does not read their images again.

    Args:
        rows: As `score_files` gives them.
        unreadable: What becomes of an image that cannot be read: a row that says why, nothing
            but a count, or the end.
        remarks: What was noticed, complete when the rows are.
        scale: The detector's `scale`.

    Yields:
        The rows that are to be written.

    Raises:
        UserError: There is no row, an image cannot be read (`error`), or none can (`skip`).
    """
    total = failed = written = 0
    try:
        with tqdm(unit="img", delay=1, leave=False, disable=None) as bar:
            for row in rows:
                total += 1
                failed += bool(row.error)
                bar.update()
                if row.readable or unreadable == "row":
                    written += 1
                    yield row
                elif unreadable == "error":
                    raise UserError(
                        f"{printable(row.path)}: {row.error}; leave it out, or leave out --strict"
                    )
    finally:
        for line in remarks.lines(scale):
            notice(line)
    if not total:
        raise UserError("no images given")
    if not written:
        raise UserError(
            f"none of the {total} image(s) can be read; without --skip-unreadable each row says why"
        )
    if total > written:
        notice(f"{total - written} of {total} image(s) left out, as they cannot be read")
    if failed > total - written:
        doubtful = failed - (total - written)
        notice(f"{doubtful} of {total} image(s) without a score, called OOD")


def _read_ahead(
    detector: Detector, paths: Iterable[str | None], remarks: Remarks
) -> Iterator[tuple[list[str], list[Tensor | str]]]:
    """Batches of paths with their images, or with the reason where one cannot be read."""
    config = detector.config

    def read(some: Sequence[str]) -> tuple[list[Tensor | str], Remarks]:
        images: list[Tensor | str] = []
        with collecting() as found:
            for path in some:
                try:
                    size = config.image_size
                    images.append(read_image(path, config.channels, size, config.scale))
                except UnreadableImage as error:
                    images.append(error.reason)
        return images, found

    waiting: collections.deque[tuple[list[str], list[Future[tuple[list[Tensor | str], Remarks]]]]]
    waiting = collections.deque()
    pool = ThreadPoolExecutor(cores())
    try:
        for batch in _batches(paths):
            if batch:
                parts = [batch[start : start + _PART] for start in range(0, len(batch), _PART)]
                waiting.append((batch, [pool.submit(read, part) for part in parts]))
            while waiting and (not batch or len(waiting) > _AHEAD):
                ready, futures = waiting.popleft()
                results = [future.result() for future in futures]
                for _, found in results:
                    remarks.add(found)
                yield ready, [image for images, _ in results for image in images]
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(paths: Iterable[str | None]) -> Iterator[list[str]]:
    """Whole batches, and what there is where no more comes; then an empty one, as at the end."""
    batch: list[str] = []
    for path in paths:
        if path is not None:
            batch.append(path)
        if len(batch) == BATCH or (path is None and batch):
            yield batch
            batch = []
        if path is None:
            yield []
    if batch:
        yield batch
    yield []


def _score_batch(
    detector: Detector, batch: Sequence[str], images: Sequence[Tensor | str]
) -> list[FileScore]:
    readable = [image for image in images if not isinstance(image, str)]
    scores = iter(detector.score(torch.stack(readable)).tolist() if readable else [])
    rows = []
    for path, image in zip(batch, images, strict=True):
        if isinstance(image, str):
            rows.append(FileScore(path, None, image, readable=False))
            continue
        score = next(scores)
        if math.isfinite(score):
            rows.append(FileScore(path, score))
        else:
            rows.append(FileScore(path, None, f"its score is {score}"))
    return rows

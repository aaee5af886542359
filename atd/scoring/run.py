"""Scores a stream of images: each row goes through all that happens to it, and is forgotten."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atd.data.given import given_images, require_given
from atd.data.listing import LeftOut
from atd.data.reading import notice
from atd.data.remarks import Remarks
from atd.data.watching import watched_images
from atd.detectors.base import Detector
from atd.detectors.streaming import FileScore, score_files, settle_rows
from atd.errors import UserError, printable
from atd.evaluation.cache import fingerprint
from atd.files import is_special, require_writable
from atd.reporting.score_rows import write_rows
from atd.reporting.suspects import write_suspects
from atd.scoring.decisions import decided
from atd.scoring.destination import destination
from atd.scoring.journal import keeping
from atd.scoring.monitor import monitored
from atd.scoring.order import ScoreOrder
from atd.scoring.suspects import Suspects, explained
from atd.scoring.together import score_together
from atd.threads import set_threads

if TYPE_CHECKING:
    from atd.training.processes import Processes

__all__ = ["score_images"]

_WINDOW = 1000
"""Images of a summary where somebody watches."""


def score_images(order: ScoreOrder) -> None:
    """Scores images and writes a row for each; under torchrun every process calls it.

    Args:
        order: What is to be done.

    Raises:
        UserError: The detector or the images are not what they should be, or a file cannot be
            written.
    """
    if os.environ.get("RANK", "0") == "0":  # before the others are waited for
        require_given(order.images, may_be_empty=order.watch)
        if order.explain:
            _require_page(Path(order.page))
    set_threads(order.threads)
    processes, device = _processes(order)
    detector = Detector.from_pretrained(Path(order.detector), device)
    if order.p_values and detector.calibration is None:
        raise UserError(
            f"{order.detector}: no calibration sample, which --p-values needs; run python -m "
            f"atd.calibrate {order.detector} --id IMAGES"
        )
    if processes is None or processes.is_main:
        _write(order, detector, processes)
    else:
        for _ in score_together(processes, [], partial(score_files, detector), Remarks()):
            pass
    if processes is not None:
        processes.close()


def _require_page(page: Path) -> None:
    if page.is_dir():
        raise UserError(f"--page {page}: is a folder; name a file")
    if not is_special(page):
        require_writable(page.parent)


def _processes(order: ScoreOrder) -> tuple[Processes | None, str]:
    """All processes, where there are several, and the device of this one."""
    device = order.device
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available; use --device cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from atd.training.processes import Processes

        if order.watch:
            raise UserError("--watch: several processes share lists that end; start one")
        processes = Processes(device)
        return processes, str(processes.device)
    return None, ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _write(order: ScoreOrder, detector: Detector, processes: Processes | None) -> None:
    """Scores, writes rows and, last, the page; on the main process."""
    left_out, remarks, suspects = LeftOut(), Remarks(), Suspects(order.explain)
    threshold, sample = order.limit(detector.threshold), detector.calibration
    if threshold is None:
        notice(
            f"{order.detector}: has no threshold, so is_ood stays empty; give --threshold, or set "
            f"one with python -m atd.calibrate {order.detector} --id IMAGES"
        )
    paths: Iterator[str | None] = given_images(order.images, left_out, null=order.null)
    if order.watch:
        paths = watched_images(order.images, null=order.null)

    def score(some: Iterable[str | None]) -> Generator[FileScore, None, None]:
        if processes is None:
            return score_files(detector, some, remarks)
        return score_together(processes, some, partial(score_files, detector), remarks)

    with contextlib.ExitStack() as stack:
        found = score(paths)
        if order.output is not None and not is_special(Path(order.output)):
            journal = stack.enter_context(keeping(Path(order.output), _key(detector)))
            found = journal.rows(paths, score)
        stack.enter_context(contextlib.closing(found))
        rows = settle_rows(found, order.unreadable, remarks, detector.config.scale)
        rows = decided(rows, threshold, sample if order.p_values else None)
        if order.explain:
            rows = suspects.passing(rows)
        if sample is not None:
            every = order.every or (_WINDOW if order.watch else 0)
            rows = monitored(rows, sample, threshold, every)
        with destination(order.output, at_once=order.watch) as stream:
            write_rows(rows, order.format, stream)
        if order.explain:  # before the journal goes: a page that fails costs no scores
            _explain(order, detector, suspects)
    if left_out:
        notice(f"{left_out.total} left out: {left_out}")


def _key(detector: Detector) -> str:
    """What scores depend on beside the images."""
    others = (detector.config.scale, detector.device.type, torch.__version__)
    return hashlib.sha256(f"{fingerprint(detector)} {others}".encode()).hexdigest()


def _explain(order: ScoreOrder, detector: Detector, suspects: Suspects) -> None:
    config = detector.config
    limit = order.limit(config.threshold)
    judged = f"Flagged above {limit:.5g}." if limit is not None else "It has no threshold."
    if limit is not None and order.threshold is None:
        judged = f"Flagged above {limit:.5g} ({config.threshold_note})."
    about = [f"Detector {printable(config.name)}, kind {config.kind}. {judged}"]
    if detector.calibration is None or detector.calibration.pictures is None:
        about.append("The detector keeps no calibration images; atd.calibrate --id keeps some.")
    try:
        worst = explained(detector, suspects.worst)
        write_suspects(worst, suspects.seen, about, Path(order.page))
    except OSError as error:
        raise UserError(f"{order.page}: cannot be written: {error.strerror}") from None
    notice(f"the {len(worst)} most suspicious images: {order.page}")

"""How fast every kind scores: images per second, one process, each beside MSP in turns."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.results import Provenance
from atd.experiments.bench import Bench, backbone_words
from atd.experiments.missing import write
from atd.experiments.order import Order
from atd.experiments.setting import Setting
from atd.experiments.variants import DEFAULTS
from atd.provenance import provenance
from atd.records import to_json
from atd.reporting.speeds_page import Speed, Speeds, speeds_page
from atd.threads import set_threads

__all__ = ["measure_speeds", "reproduce_speeds", "speed"]

_IMAGES = 256
"""Images whose scores are timed."""


def reproduce_speeds(order: Order) -> None:
    """Makes the page of speeds; the config's own size unless `smoke` is asked for."""
    setting = order.setting
    if setting.scale != "smoke":
        setting = dataclasses.replace(setting, scale="speed")
    measure_speeds(setting, order.kinds or DEFAULTS["speeds"], output=order.output)


def measure_speeds(setting: Setting, kinds: Sequence[str], *, output: Path) -> None:
    """Times every kind in one go and writes page and JSON file.

    Args:
        setting: The config at scale `speed`.
        kinds: Keys of `atd.detectors.kinds.KINDS`.
        output: The page.

    Raises:
        UserError: Bad options, or the files cannot be written.
    """
    started, threads = time.monotonic(), set_threads()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(setting, Path(work))
        ground = bench.ground("", 0)
        assert ground.detector is not None
        assert ground.splits is not None
        some = ground.splits.id_test.take(_IMAGES, 0)
        images = some.fetch(range(len(some)))
        timed, refused = {}, {}
        for kind in kinds:
            try:
                detector = bench.detector(kind, bench.config(kind, 0), ground)
            except UserError as error:
                refused[kind] = str(error)
                continue
            timed[kind] = speed(detector, ground.detector, images)
        config = ground.config
    facts = provenance(config, seed=0, seconds=time.monotonic() - started)
    found = Speeds(
        config=setting.config,
        overrides=setting.overrides,
        backbone=backbone_words(config),
        images=len(images),
        size=images.shape[-1],
        threads=threads,
        speeds=timed,
        refused=refused,
        provenance=Provenance(**facts),
    )
    write(output.with_suffix(".json"), json.dumps(to_json(found), indent=1))
    write(output, speeds_page(found))


def speed(
    detector: Detector,
    reference: Detector,
    images: Tensor,
    *,
    turns: int = 3,
    seconds: float = 0.2,
) -> Speed:
    """Images per second of `score`, beside those of another detector in the same minute.

    Args:
        detector: The detector.
        reference: What it is compared with.
        images: uint8 images (N, C, H, W).
        turns: Times that each is measured, one after the other; the best counts.
        seconds: How long each is measured at least.

    Returns:
        Both speeds.
    """

    def once(scorer: Detector) -> float:
        started, count, passed = time.perf_counter(), 0, 0.0
        while passed < seconds or not count:
            scorer.score(images)
            count += len(images)
            passed = time.perf_counter() - started
        return count / passed

    for scorer in (detector, reference):
        scorer.score(images[:8])  # what is built once counts for nothing
    pairs = [(once(detector), once(reference)) for _ in range(turns)]
    ours, theirs = (max(column) for column in zip(*pairs, strict=True))
    return Speed(images_per_second=ours, of_msp=theirs)

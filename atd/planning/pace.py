"""How fast the parts of a run go on this machine: a few timed steps on stand-in images."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from atd.backbones.base import Backbone
from atd.config import Config, DataConfig
from atd.data.images import HeldPixels, ImageSet
from atd.data.ood_tests import listed_tests
from atd.data.protocols import protocol_id_test
from atd.data.sources import has_test_split, open_source
from atd.data.splits import DataSplits
from atd.data.torchvision_sets import no_downloads
from atd.detectors.base import Detector
from atd.detectors.kinds import kind_class
from atd.evaluation.expense import seconds_per_step
from atd.planning.plan import trainings
from atd.training.fits import fitted_detector, untrained_backbone
from atd.training.ingredients import Ingredients
from atd.training.processes import Processes
from atd.training.task import Task
from atd.training.tasks import adversarial_gan, untrained_pretraining

__all__ = ["Counts", "Pace", "count_images", "measure_pace"]

_FEW = 8
"""Images of a first, small step, which shows whether a whole one is too slow to be timed."""
_SLOW = 0.5
"""Seconds of a small step."""
_ENOUGH = 3.0
"""Seconds after which no further step is timed."""
_CLASSES = 10
_VALIDATED = 512
"""Held-out images that are attacked on each side, at most."""


@dataclass(frozen=True)
class Counts:
    """Images of a run.

    Attributes:
        train: ID images for training.
        held: ID images for validation.
        tests: ID test images, then those of each OOD test set.
    """

    train: int
    held: int
    tests: tuple[int, ...]


@dataclass(frozen=True)
class Pace:
    """How fast a run goes.

    Attributes:
        steps: Seconds of a step for each of its images, by stage.
        validations: Seconds of a validation, by stage.
        attack: Seconds of an attack's step, forward and backward, for each image.
        scores: Detectors that an evaluation judges beside its baselines; a slow kind counts more.
        comparable: Whether there is a backbone with a classifier for baselines.
        images: How many images there are.
    """

    steps: Mapping[str, float]
    validations: Mapping[str, float]
    attack: float
    scores: float
    comparable: bool
    images: Counts


def measure_pace(config: Config) -> Pace:
    """Times a few steps of each stage in this process, on images of noise of the right shape.

    A step that would take long is timed on fewer images.

    Args:
        config: All options, settled.

    Raises:
        UserError: The images are not at hand, or a stage cannot be built.
    """
    images = count_images(config)
    run = dataclasses.replace(config.run, device_batch=0, compile=False)
    plain = dataclasses.replace(config, run=run)
    processes = Processes(config.run.device)
    names = trainings(config)
    backbone: Backbone | None = None
    if config.atd.features == "backbone":
        backbone = untrained_backbone(_given(plain, processes))
    makers: dict[str, Callable[[Ingredients], Task]] = {
        "helper": partial(untrained_pretraining, "helper"),
        "pretrain": partial(untrained_pretraining, "pretrain"),
        "atd": lambda given: adversarial_gan(given, backbone),
    }
    steps = {name: _timed(plain, processes, makers[name]) for name in makers if name in names}
    given = _given(_few(plain, _FEW), processes)
    detector: Detector
    if "atd" in names or backbone is None:
        detector, scores = adversarial_gan(given, backbone).detector, 1.0
    else:  # on noise not every kind can be fitted; most of the time is spent in the backbone
        simple = dataclasses.replace(given.config, detector={"kind": "max_logit"})
        detector = fitted_detector(dataclasses.replace(given, config=simple), backbone)
        scores = kind_class(config.detector_kind).info.passes or 1.0
    attack = seconds_per_step(detector, processes.device)
    held = min(_VALIDATED, images.held)
    validations = {
        "helper": attack * images.held / 3,
        "pretrain": attack * held * 22,
        "atd": attack * (held + _VALIDATED) * max(10, config.atd.steps),
    }
    return Pace(steps, validations, attack, scores, backbone is not None, images)


def _timed(config: Config, processes: Processes, make: Callable[[Ingredients], Task]) -> float:
    """Seconds that a stage's step takes for each of its images."""
    few = _step_seconds(make(_given(_few(config, _FEW), processes)))
    if few > _SLOW and processes.device.type == "cpu":
        return few / _FEW
    task = make(_given(config, processes))
    return _step_seconds(task) / task.batch_size


def _step_seconds(task: Task) -> float:
    """The median of up to three steps after the first one, which sets things up."""
    seconds: list[float] = []
    for step, batch in enumerate(itertools.islice(task.batches(0), 4)):
        _wait()
        started = time.perf_counter()
        task.step(step, batch)
        _wait()
        seconds.append(time.perf_counter() - started)
        if step and sum(seconds) > _ENOUGH:
            break
    return statistics.median(seconds[1:] or seconds)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _few(config: Config, size: int) -> Config:
    """The options with smaller batches."""
    pretrain = dataclasses.replace(config.pretrain, batch_size=size, ghost_batch=0)
    atd = dataclasses.replace(config.atd, batch_size=size)
    return dataclasses.replace(config, pretrain=pretrain, atd=atd)


def _given(config: Config, processes: Processes) -> Ingredients:
    """Options and images of noise, twice as many as a step takes."""
    count = 2 * max(config.pretrain.batch_size, config.atd.batch_size)
    data = config.data
    shape = (min(count, 64), data.channels, *2 * (data.image_size,))
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    names = [f"noise {index}" for index in range(len(pixels))]
    rows = torch.arange(count) % len(pixels)
    classes = [str(label) for label in range(_CLASSES)]
    one = ImageSet.of("noise", HeldPixels(pixels, names), rows[: len(pixels)] % _CLASSES, classes)
    images = one.subset(rows)
    splits = DataSplits(images, images, images, images, images, {}, {}, frozenset())
    return Ingredients(config, splits, processes)


def count_images(config: Config) -> Counts:
    """The images of a run, as far as sources tell before they are read.

    Raises:
        UserError: They are not at hand.
    """
    data = config.data
    with no_downloads():
        train = len(open_source(data.id, split="train", data=data))
        own_test = data.id_test or protocol_id_test(data)
        if own_test or has_test_split(data.id):
            test = len(open_source(own_test or data.id, split="test", data=data))
        else:
            test = round(data.test_fraction * train)
            train -= test
        tests = (test, *(_ood_count(item.source, data, test) for item in listed_tests(data)))
    train = min(train, data.id_limit or train)
    held = round(data.val_fraction * train)
    return Counts(train - held, held, tests)


def _ood_count(source: str, data: DataConfig, id_test: int) -> int:
    if source == f"jigsaw:{data.id}":
        return id_test
    count = len(open_source(source, split="test", data=data))
    return min(count, data.ood_limit or count)

"""About how long the stages of a run will take, from a few timed steps on stand-in images."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable
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
from atd.errors import UserError
from atd.evaluation.tiers import resolve_tier
from atd.pipeline import stages_of
from atd.run_folder import RunFolder
from atd.training.ingredients import Ingredients
from atd.training.loop import Task, is_finished
from atd.training.objectives import objective_of
from atd.training.processes import Processes
from atd.training.schedule import Length
from atd.training.tasks import (
    adversarial_gan,
    fitted_detector,
    robust_pretraining,
    untrained_backbone,
)

__all__ = ["Expected", "forecast", "plan_of"]

_FEW = 8
"""Images of a first, small step, which shows whether a whole one is too slow to be timed."""
_SLOW = 0.5
"""Seconds of a small step."""
_ENOUGH = 3.0
"""Seconds after which no further step is timed."""
_CLASSES = 10


def plan_of(config: Config) -> list[str]:
    """What a run with these options would do, a line for each stage, and about how long it takes.

    Args:
        config: All options.
    """
    stages = stages_of(config)
    state = RunFolder(config.run.folder).state
    try:
        done = {stage.name for stage in stages if is_finished(state, stage.name)}
    except UserError:
        done = set()
    lines = [f"run folder: {config.run.folder}", f"ID images: {config.data.id}"]
    outliers = config.data.outliers or "the offline fallback and altered ID images"
    lines.append(f"outliers: {outliers}")
    try:
        expected = forecast(config)
        total = sum(value.seconds for name, value in expected.items() if name not in done)
        last = (
            f"in all: about {_words(total)}, and {_memory():.1f} GB of memory beside the images, "
            "on this machine, as busy as it is now, by a few timed steps; reading the images, "
            "validation and the evaluation's checks come on top"
        )
    except UserError as error:
        expected, last = {}, f"in all: nobody can tell yet ({error})"
    for stage in stages:
        about = str(expected.get(stage.name, ""))
        lines.append(
            f"{stage.name}: {stage.plan(config)}{', done' if stage.name in done else about}"
        )
    return [*lines, last]


@dataclass(frozen=True)
class Expected:
    """What a stage is expected to take.

    Attributes:
        seconds: Its time.
        length: Its steps; None for an evaluation.
    """

    seconds: float
    length: Length | None = None

    def __str__(self) -> str:
        steps = f", {self.length}" if self.length else ""
        return f"{steps}, about {_words(self.seconds)}"


def forecast(config: Config) -> dict[str, Expected]:
    """What the stages take, by name; those that take next to no time are absent.

    Steps are timed in this process, on images of noise of the right shape; a step that would
    take long is timed on fewer images. A run by several processes shares the work.

    Args:
        config: All options.

    Raises:
        UserError: The images are not at hand, or a stage cannot be built.
    """
    images = _counts(config)
    run = dataclasses.replace(config.run, device_batch=0, compile=False)
    plain = dataclasses.replace(config, run=run)
    processes, sharing = Processes(config.run.device), int(os.environ.get("WORLD_SIZE", "1"))
    found: dict[str, Expected] = {}
    names = {stage.name for stage in stages_of(config)}
    backbone: Backbone | None = None
    if config.atd.features == "backbone":
        backbone = untrained_backbone(_given(plain, processes))
    makers: dict[str, Callable[[Ingredients], Task]] = {
        "helper": partial(_pretraining, "helper"),
        "pretrain": partial(_pretraining, "pretrain"),
        "atd": lambda given: adversarial_gan(given, backbone),
    }
    for name in [name for name in makers if name in names]:
        length, batch = _length(config, name, images["train"])
        seconds = _timed(plain, processes, makers[name]) * length.steps * batch
        found[name] = Expected(seconds / sharing, length)
    given = _given(_few(plain, _FEW), processes)
    detector: Detector
    if "atd" in names or backbone is None:
        detector, passes = adversarial_gan(given, backbone).detector, 1.0
    else:  # on noise not every kind can be fitted; most of the time is spent in the backbone
        simple = dataclasses.replace(given.config, detector={"kind": "max_logit"})
        detector = fitted_detector(dataclasses.replace(given, config=simple), backbone)
        passes = kind_class(config.detector_kind).info.passes or 1.0
    scores = passes + (len(config.evaluate.baselines) if backbone is not None else 0)
    seconds = scores * images["test"] * _attack_seconds(detector, config, processes)
    return found | {"evaluate": Expected(seconds / sharing)}


def _length(config: Config, stage: str, images: int) -> tuple[Length, int]:
    """The length of a training on so many images, and its batch size."""
    options, atd = config.pretrain, config.atd
    epochs, least, batch = {
        "helper": (options.helper_epochs, options.helper_min_steps, options.batch_size),
        "pretrain": (options.epochs, options.min_steps, options.batch_size),
        "atd": (atd.epochs, atd.min_steps, atd.batch_size),
    }[stage]
    batch = max(1, min(batch, images))
    return Length.of(epochs, max(1, images // batch), least), batch


def _pretraining(stage: str, given: Ingredients) -> Task:
    helped = stage == "pretrain" and objective_of(given.config.pretrain.objective).helped
    helper = untrained_backbone(given, helper=True) if helped else None
    return robust_pretraining(given, stage, untrained_backbone(given), helper)


def _timed(config: Config, processes: Processes, make: Callable[[Ingredients], Task]) -> float:
    """Seconds that a stage's step takes for each of its images."""
    few = _step_seconds(make(_given(_few(config, _FEW), processes)))
    if few > _SLOW and processes.device.type == "cpu":
        return few / _FEW
    task = make(_given(config, processes))
    return _step_seconds(task) / task.batch_size


def _step_seconds(task: Task) -> float:
    """The shortest of up to three steps after the first one, which sets things up."""
    seconds: list[float] = []
    for step, batch in enumerate(itertools.islice(task.batches(0), 4)):
        _wait()
        started = time.perf_counter()
        task.step(step, batch)
        _wait()
        seconds.append(time.perf_counter() - started)
        if step and sum(seconds) > _ENOUGH:
            break
    return min(seconds[1:] or seconds)


def _attack_seconds(detector: Detector, config: Config, processes: Processes) -> float:
    """Seconds that the attack of the evaluation takes for each image."""
    shape = (_FEW * 4, config.data.channels, *2 * (config.data.image_size,))
    times = []
    for _ in range(4):  # the first time sets things up
        x = torch.rand(shape, device=processes.device).requires_grad_(True)
        started = time.perf_counter()
        torch.autograd.grad(detector.logits(x).sum(), x)
        _wait()
        times.append(time.perf_counter() - started)
    forward, backward = resolve_tier(config.evaluate).passes
    return min(times) / len(x) * (forward + 2 * backward) / 3  # a backward pass costs two forward


def _memory() -> float:
    """The most that this process, or the device, has needed so far, in GB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


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


def _counts(config: Config) -> dict[str, int]:
    """Images for training and for the test, as far as sources tell before they are read."""
    data, limit = config.data, config.evaluate.limit
    with no_downloads():
        train = len(open_source(data.id, split="train", data=data))
        own_test = data.id_test or protocol_id_test(data)
        if own_test or has_test_split(data.id):
            test = len(open_source(own_test or data.id, split="test", data=data))
        else:
            test = round(data.test_fraction * train)
            train -= test
        tests = [test, *(_ood_count(item.source, data, test) for item in listed_tests(data))]
    train = min(train, data.id_limit or train)
    train -= round(data.val_fraction * train)
    return {"train": train, "test": sum(min(count, limit or count) for count in tests)}


def _ood_count(source: str, data: DataConfig, id_test: int) -> int:
    if source == f"jigsaw:{data.id}":
        return id_test
    count = len(open_source(source, split="test", data=data))
    return min(count, data.ood_limit or count)


def _words(seconds: float) -> str:
    """A duration in the unit that fits, without more figures than it deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"

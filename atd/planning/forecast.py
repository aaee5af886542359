"""About how long the stages of a run will take."""

from __future__ import annotations

import os
from dataclasses import dataclass

from atd.config import Config
from atd.errors import UserError
from atd.evaluation.expense import evaluation_seconds
from atd.planning.pace import Pace, measure_pace
from atd.training.schedule import Length

__all__ = ["Expected", "batch_of", "expectations", "forecast", "lengths", "words"]


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
        return f"{steps}, about {words(self.seconds)}"


def forecast(config: Config) -> dict[str, Expected]:
    """What the stages take, by name; those that take next to no time are absent.

    Args:
        config: All options.

    Raises:
        UserError: The images are not at hand, a stage cannot be built, or this is one of several
            processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # each would time steps until it had enough
        raise UserError("no times are told by several processes; python train.py --dry-run does")
    return expectations(config, measure_pace(config))


def expectations(config: Config, pace: Pace) -> dict[str, Expected]:
    """What the stages of one process take at a pace, validation and checks included.

    Args:
        config: All options.
        pace: How fast its parts go.
    """
    found: dict[str, Expected] = {}
    for name, length in lengths(config, pace.images.train).items():
        if name in pace.steps:
            seconds = pace.steps[name] * batch_of(config, name, pace.images.train) * length.steps
            validations = length.steps / length.between
            found[name] = Expected(seconds + validations * pace.validations[name], length)
    baselines = len(config.evaluate.baselines) if pace.comparable else 0
    seconds = evaluation_seconds(
        config.evaluate, pace.attack, pace.images.tests, pace.scores + baselines
    )
    return found | {"evaluate": Expected(seconds)}


def lengths(config: Config, images: int) -> dict[str, Length]:
    """How long each training on so many images is, by stage."""
    pretrain, atd = config.pretrain, config.atd
    asked = {
        "helper": (pretrain.helper_epochs, pretrain.helper_min_steps),
        "pretrain": (pretrain.epochs, pretrain.min_steps),
        "atd": (atd.epochs, atd.min_steps),
    }
    return {
        name: Length.of(epochs, max(1, images // batch_of(config, name, images)), least)
        for name, (epochs, least) in asked.items()
    }


def batch_of(config: Config, stage: str, images: int) -> int:
    """Images of a step of a training on so many images."""
    size = config.atd.batch_size if stage == "atd" else config.pretrain.batch_size
    return max(1, min(size, images))


def words(seconds: float) -> str:
    """A duration in the unit that fits, without more figures than it deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"

"""What a run chooses for itself, once: options that are `auto`, and all that a budget plans."""

from __future__ import annotations

import dataclasses
import os

from atd.backbones.weights import adopted
from atd.config import Config
from atd.data.sides import sized
from atd.errors import UserError
from atd.planning.budget import TimePlan, plan_time, with_network
from atd.planning.recall import leaves_open, recalled

__all__ = ["settled"]


def settled(config: Config) -> TimePlan:
    """The options with everything settled, and the reasons where it is settled now.

    Args:
        config: The options as they were asked for.

    Raises:
        UserError: The budget is too small or planned for several processes, or the images are
            not at hand.
    """
    if not leaves_open(config):
        return TimePlan(config, ())
    known = recalled(config)
    if known is not None:
        return TimePlan(known, ())
    config = dataclasses.replace(config, data=sized(config.data))
    config = _with_given_network(config)
    if not config.run.seconds:
        return with_network(config)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "run.budget: plans for one process; for several give epochs (pretrain.epochs, "
            "atd.epochs) instead"
        )
    return plan_time(config)


def _with_given_network(config: Config) -> Config:
    """Settles what is `auto` of a network that is given as the folder of a detector."""
    asked = config.backbone
    given = adopted(asked, config.data.image_size)
    backbone = dataclasses.replace(
        asked,
        width=asked.width or given.width,
        stem_stride=asked.stem_stride or given.stem_stride,
    )
    return dataclasses.replace(config, backbone=backbone)

"""`run.budget`: lengths, network and evaluation that fit the time on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass

from atd.config import BackboneConfig, Config
from atd.errors import UserError
from atd.evaluation.expense import richest_evaluation
from atd.planning.forecast import Expected, batch_of, expectations, words
from atd.planning.pace import Pace, measure_pace
from atd.planning.plan import trainings

__all__ = ["TimePlan", "networks", "plan_time", "shortened", "with_network"]

SHARES = {"helper": 0.06, "pretrain": 0.34, "atd": 0.35, "evaluate": 0.25}
"""Of the time, by stage; the time of a training that a run lacks goes to its other trainings."""
_CERTAIN = 0.92
"""Of the budget is planned: the images must be read, the report written."""
_FEWEST = 60
"""Steps of each training below which nothing useful is learnt."""
_GROWS_AT = 800
"""Steps that pre-training and ATD must get before a larger network is worth its time."""

_SMALL_IMAGE = 24


@dataclass(frozen=True)
class TimePlan:
    """What fits a budget.

    Attributes:
        config: The options with everything settled.
        reasons: What was chosen and why, in lines for a person.
    """

    config: Config
    reasons: tuple[str, ...]


def networks(backbone: BackboneConfig, image_size: int) -> list[BackboneConfig]:
    """Backbones from cheap to dear, each taking about four times as long as the one before.

    Args:
        backbone: The options; a width or a stem that they name stays.
        image_size: Side in pixels.
    """
    if backbone.width:
        return [backbone]
    if backbone.stem_stride or image_size < _SMALL_IMAGE:
        return [dataclasses.replace(backbone, width=width) for width in (16, 32, 64)]
    strided = dataclasses.replace(backbone, width=16, stem_stride=2)
    plain = dataclasses.replace(backbone, stem_stride=1)
    return [strided, *(dataclasses.replace(plain, width=width) for width in (16, 32, 64))]


def plan_time(config: Config, pace_of: Callable[[Config], Pace] = measure_pace) -> TimePlan:
    """Splits `run.budget` over the stages.

    Args:
        config: All options, with the image size settled; the backbone's width may be `auto`.
        pace_of: Measures how fast the parts of a run go.

    Returns:
        The plan, which takes less than the budget at that pace.

    Raises:
        UserError: The budget is too small for anything useful, or the images are not at hand.
    """
    chosen: tuple[Config, Pace] | None = None
    for network in networks(config.backbone, config.data.image_size):
        sized = dataclasses.replace(config, backbone=network)
        filled, pace = _filled(*_enough_images(sized, pace_of(sized)))
        steps = _fewest_steps(filled, pace)
        if chosen is not None and steps < _GROWS_AT:
            break
        chosen = filled, pace
        if steps < 4 * _GROWS_AT:  # the next one takes about four times as long
            break
    assert chosen is not None
    planned, pace = chosen
    _require_enough(planned, pace)
    reasons = _reasons(planned, expectations(planned, pace), chose=not config.backbone.width)
    return TimePlan(planned, reasons)


def _fewest_steps(config: Config, pace: Pace) -> int:
    """Those of pre-training or of ATD, whichever has fewer."""
    asked = {"pretrain": config.pretrain.min_steps, "atd": config.atd.min_steps}
    return min((asked[stage] for stage in asked if stage in pace.steps), default=0)


def _filled(config: Config, pace: Pace) -> tuple[Config, Pace]:
    """The options with lengths and an evaluation that fill the budget; the pace stays."""
    for stage in pace.steps:
        config = _with_steps(config, stage, _steps_in(config, pace, stage))
    evaluate = richest_evaluation(
        config.evaluate,
        pace.attack,
        pace.images.tests,
        scores=pace.scores,
        comparable=pace.comparable,
        seconds=_time_of(config, pace, "evaluate"),
    )
    return dataclasses.replace(config, evaluate=evaluate), pace


def _with_steps(config: Config, stage: str, steps: int) -> Config:
    """The options with a stage that takes so many steps, rounded up to whole validations."""
    pretrain, atd = config.pretrain, config.atd
    match stage:
        case "helper":
            pretrain = dataclasses.replace(pretrain, helper_epochs=1, helper_min_steps=steps)
        case "pretrain":
            pretrain = dataclasses.replace(pretrain, epochs=1, min_steps=steps)
        case "atd":
            atd = dataclasses.replace(atd, epochs=1, min_steps=steps)
    return dataclasses.replace(config, pretrain=pretrain, atd=atd)


def _steps_in(config: Config, pace: Pace, stage: str) -> int:
    """The most steps of a stage, with their validations, that fit into its time."""
    seconds = _time_of(config, pace, stage)
    steps = int(seconds / pace.steps[stage] / batch_of(config, stage, pace.images.train))
    while steps > _FEWEST:
        if expectations(_with_steps(config, stage, steps), pace)[stage].seconds <= seconds:
            return steps
        steps = int(0.97 * steps)
    return _FEWEST


def _time_of(config: Config, pace: Pace, stage: str) -> float:
    return config.run.seconds * _CERTAIN * _share(stage, pace.steps)


def _share(stage: str, trained: Collection[str]) -> float:
    """Of the time, for one of the trainings of a run or for its evaluation."""
    if not trained:
        return 1.0
    if stage == "evaluate":
        return SHARES[stage]
    return (1 - SHARES["evaluate"]) * SHARES[stage] / sum(SHARES[name] for name in trained)


def _enough_images(config: Config, pace: Pace) -> tuple[Config, Pace]:
    """No more ID images than each training has time to pass through once."""
    passes = [
        round(0.9 * _time_of(config, pace, name) / pace.steps[name])
        for name in ("pretrain", "atd")
        if name in pace.steps
    ]
    seen = max(1, min(passes, default=pace.images.train))
    if seen >= pace.images.train:
        return config, pace
    limit = round(seen / (1 - config.data.val_fraction))
    images = dataclasses.replace(pace.images, train=seen, held=limit - seen)
    data = dataclasses.replace(config.data, id_limit=limit)
    return dataclasses.replace(config, data=data), dataclasses.replace(pace, images=images)


def shortened(config: Config, spent: float) -> Config:
    """The options with fewer steps of ATD where the run is behind its plan.

    Args:
        config: The options of a plan.
        spent: Seconds until ATD's first step.

    Returns:
        The same options where there is time for what was planned.
    """
    trained = trainings(config)
    planned = sum(_share(stage, trained) for stage in trained - {"atd"})
    done = config.run.seconds * planned
    left = config.run.seconds * _CERTAIN - spent
    share = 1 - planned
    if not done or spent <= done:
        return config
    slower = spent / done
    enough = left / (config.run.seconds * _CERTAIN * share) / slower
    steps = max(_FEWEST, round(min(1.0, enough) * config.atd.min_steps))
    return _with_steps(config, "atd", min(steps, config.atd.min_steps))


def _require_enough(config: Config, pace: Pace) -> None:
    """Refuses a budget that the plan does not keep to."""
    expected = expectations(config, pace)
    total = sum(one.seconds for one in expected.values())
    if total > config.run.seconds:
        needed = total / _CERTAIN
        unit = f"{-(-needed // 60):.0f}m"
        raise UserError(
            f"run.budget={config.run.budget}: too short for these images on this machine; even "
            f"{_FEWEST} steps of each training and the smallest evaluation take about "
            f"{words(total)}: give at least {unit}"
        )


def _reasons(config: Config, expected: dict[str, Expected], *, chose: bool) -> tuple[str, ...]:
    backbone, evaluate = config.backbone, config.evaluate
    lines = [f"run.budget={config.run.budget}, planned by the pace of a few timed steps:"]
    for stage, one in expected.items():
        length = f"{one.length.steps} steps" if one.length else f"tier {evaluate.tier}"
        lines.append(f"  {stage}: {length}, about {words(one.seconds)}")
    lines[-1] += (
        f", {evaluate.limit} images a set, {'with' if evaluate.baselines else 'no'} baselines; "
        "fitted anew into the time that is left then"
    )
    if chose:
        lines.append(
            f"  network: width {backbone.width}, stem of stride {backbone.stem_stride or 'auto'}: "
            f"the largest that gets {_GROWS_AT} steps of each training, else the smallest"
        )
    if config.data.id_limit:
        lines.append(f"  ID images: {config.data.id_limit}; more could not be seen even once")
    return tuple(lines)


def with_network(config: Config) -> TimePlan:
    """Settles a width that is `auto` where there is no budget: the cheapest network.

    Args:
        config: All options, with the image size settled.
    """
    size = config.data.image_size
    backbone = networks(config.backbone, size)[0]
    network = f"width {backbone.width}, stem of stride {backbone.stem_stride or 'auto'}"
    why = (
        "as given"
        if config.backbone.width
        else "what a machine without a GPU trains in an hour; a run.budget that has time for a "
        "larger network chooses one"
    )
    reason = f"images of {size} x {size} pixels, {network}: {why}"
    return TimePlan(dataclasses.replace(config, backbone=backbone), (reason,))

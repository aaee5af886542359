"""Which options may change between two commands on one run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from atd.config import Config

__all__ = ["chosen", "differences", "names_images", "of_execution", "of_training"]

_EXECUTION = (
    "run.device",
    "run.device_batch",
    "run.dir",
    "run.keep",
    "run.rank_logs",
    "run.save_minutes",
    "run.threads",
    "run.timeout_minutes",
    "loader.",
)
_FREE = (*_EXECUTION, "evaluate.")
"""Options that may change between two commands on one folder: they do not touch the training."""
_SOURCES = (
    "data.id",
    "data.id_test",
    "data.outliers",
    "data.ood_val",
    "data.ood_test",
    "data.near_test",
    "data.root",
    "data.openood",
)
"""Where images lie: that may change as long as the images are the same."""


def differences(one: Config, other: Config) -> list[str]:
    """The full keys of the options that differ."""
    a, b = _flat(dataclasses.asdict(one)), _flat(dataclasses.asdict(other))
    keys = dict.fromkeys((*a, *b))  # a kind of detector has options of its own
    return [key for key in keys if a.get(key) != b.get(key)]


def chosen(config: Config) -> dict[str, Any]:
    """Options that are not their defaults, by full key, less those of place and execution."""
    values, elsewhere = _flat(dataclasses.asdict(config)), (*_EXECUTION, "run.name", "data.root")
    changed = differences(Config(), config)
    return {key: values.get(key) for key in changed if not key.startswith(elsewhere)}


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for group, options in values.items():
        if isinstance(options, dict):
            flat |= {f"{group}.{key}": value for key, value in options.items()}
        else:
            flat[group] = options
    return flat


def of_execution(keys: Sequence[str]) -> bool:
    """Whether all of these options only say how a run is carried out."""
    return all(key.startswith(_EXECUTION) for key in keys)


def names_images(keys: Sequence[str]) -> bool:
    """Whether one of these options says where images lie."""
    return any(key in _SOURCES for key in keys)


def of_training(keys: Sequence[str], before: Config, now: Config) -> list[str]:
    """Those of the options that a training, once begun, is bound to.

    Args:
        keys: The options that differ.
        before: The options of the run so far.
        now: Those of the command.
    """
    return [
        key
        for key in keys
        if not key.startswith(_FREE)
        and key not in _SOURCES
        and not (key == "atd.epochs" and _goes_on(before, now))
    ]


def _goes_on(before: Config, now: Config) -> bool:
    """Whether the discriminator's training may go on for more epochs: no schedule is stretched."""
    return now.atd.epochs > before.atd.epochs and now.atd.step_schedule == "constant"

"""What a run has chosen for itself at its first start stands in its `config.yaml`."""

from __future__ import annotations

import dataclasses
from typing import Any

from atd.config import Config, restore
from atd.run_folder import RunFolder

__all__ = ["leaves_open", "recalled"]

_AUTO = ("data.image_size", "backbone.width", "backbone.stem_stride")
_PLANNED = (
    "data.id_limit",
    "pretrain.epochs",
    "pretrain.min_steps",
    "pretrain.helper_epochs",
    "pretrain.helper_min_steps",
    "atd.epochs",
    "atd.min_steps",
    "evaluate.tier",
    "evaluate.limit",
    "evaluate.baselines",
)


def leaves_open(config: Config) -> bool:
    """Whether there is anything for a run to choose: options that are `auto`, or a budget."""
    return bool(config.run.seconds) or _leaves_size_open(config)


def recalled(config: Config) -> Config | None:
    """The options with what an earlier command of the same run has chosen.

    Args:
        config: The options as they were asked for.

    Returns:
        The options; None where nothing is open, or nothing has been trained with what was chosen:
        it may have been chosen for other images.

    Raises:
        UserError: The run's `config.yaml` is damaged.
    """
    if not leaves_open(config):
        return None
    folder = RunFolder(config.run.folder)
    stored = folder.stored_config()
    if stored is None or not folder.has_trained:
        return None
    if stored.run.budget != config.run.budget or _leaves_size_open(stored):
        return None
    keys = [key for key in _AUTO if not _value(config, key)]
    values = dataclasses.asdict(config)
    for key in [*keys, *(_PLANNED if config.run.seconds else ())]:
        group, _, option = key.partition(".")
        values[group][option] = _value(stored, key)
    return restore(values, str(folder.config))


def _leaves_size_open(config: Config) -> bool:
    return not (config.data.image_size and config.backbone.width)


def _value(config: Config, key: str) -> Any:
    group, _, option = key.partition(".")
    return getattr(getattr(config, group), option)

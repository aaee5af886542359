"""The options that an evaluation takes from a detector's own record, which anyone may have written.

A stored record is text. Of it an evaluation takes its image sets, its attack and the seed, and
nothing else: no run folder, no weights, no data but in folders, bundled sets and torchvision's,
and nothing is downloaded (`load_evaluation_sets(downloads=False)`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from atd.config import Config, restore
from atd.data.sources import split_mixture
from atd.data.torchvision_sets import TORCHVISION
from atd.detectors.base import Detector
from atd.errors import UserError, printable

__all__ = ["may_download", "recorded_attack", "recorded_config", "refuse_training_options"]

_TAKEN = {
    "run": ("seed",),
    "atd": ("epsilon",),
}
_TRAINING = ("atd.", "backbone.", "detector.", "pretrain.")
_TEST_SOURCES = ("id_test", "ood_test", "near_test")
_TRAINING_SOURCES = ("outliers", "ood_val")


def recorded_attack(detector: Detector, origin: str) -> Config:
    """The options of the attack that a detector was evaluated with; the rest are defaults.

    Args:
        detector: The detector, with its record; without one it is the default attack.
        origin: Where it lies, for messages.

    Raises:
        UserError: The record is damaged.
    """
    made = detector.config.training
    record = {"evaluate": _mapping(made.get("evaluate"))}
    return restore({**record, **_taken(made)}, origin)


def _taken(made: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    groups = ((group, keys, _mapping(made.get(group))) for group, keys in _TAKEN.items())
    return {
        group: {key: options[key] for key in keys if key in options}
        for group, keys, options in groups
    }


def recorded_config(detector: Detector, origin: str, overrides: Sequence[str]) -> Config:
    """The options of an evaluation by the detector's own record.

    Args:
        detector: The detector, with its record.
        origin: Where it lies, for messages.
        overrides: `key=value` words of the user's, which win.

    Returns:
        The options.

    Raises:
        UserError: The record names data that only the user may name, or none at all.
    """
    made = detector.config
    given = {word.partition("=")[0] for word in overrides}
    record: dict[str, dict[str, Any]] = {
        "data": {
            "image_size": made.image_size,
            "channels": made.channels,
            **_mapping(made.training.get("data")),
            "scale": made.scale,
        }
    }
    record["evaluate"] = _mapping(made.training.get("evaluate"))
    record |= _taken(made.training)
    if "id" not in record["data"] and not {"data.id", "data.id_test"} & given:
        raise UserError(
            f"{origin}: the detector has no record of its images; give data.id_test=SOURCE and "
            "data.ood_test=SOURCE,..., or --config FILE"
        )
    for key in _TRAINING_SOURCES:
        if f"data.{key}" not in given and not all(map(_is_safe, _sources(record, key))):
            del record["data"][key]
    for key in ("id", *_TEST_SOURCES):
        for source in _sources(record, key) if f"data.{key}" not in given else ():
            if not _is_safe(source):
                raise UserError(
                    f"{origin}: its record names data.{key}={printable(source, 60)}, which is not "
                    f"opened on a record's word; give data.{key}=..., or --config FILE"
                )
    return restore(record, origin, overrides)


def refuse_training_options(overrides: Sequence[str]) -> None:
    """Refuses words that an evaluation would ignore.

    Args:
        overrides: `key=value` words of the command line.

    Raises:
        UserError: One of them is an option of training, but for `atd.epsilon`.
    """
    for word in overrides:
        key = word.partition("=")[0]
        if key == "recipe" or (key.startswith(_TRAINING) and key != "atd.epsilon"):
            raise UserError(
                f"{key}: an option of training, which an evaluation does not change; leave it "
                "out (options of an evaluation begin with data., evaluate., loader. or run.)"
            )


def may_download(config_file: str | None, overrides: Sequence[str]) -> bool:
    """Whether the user, not a record, says where image sets lie and are downloaded to."""
    return bool(config_file) or any(word.startswith("data.root=") for word in overrides)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _sources(record: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    value = record["data"].get(key) or []
    entries = [value] if isinstance(value, str) else value
    named = [re.sub(r"^[^=:/\\]+=", "", str(entry)) for entry in entries]
    return [part for entry in named for part in split_mixture(entry)]


def _is_safe(source: str) -> bool:
    while source.startswith(("jigsaw:", "altered:")):
        source = source.partition(":")[2]
    return source in TORCHVISION or source.startswith(("folder:", "bundled:"))

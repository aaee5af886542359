"""YAML file + command-line overrides -> frozen dataclasses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atd.config.options import Config
from atd.config.ranges import OptionError
from atd.config.values import is_open, known_keys, option_types, unknown_key
from atd.config.yaml_text import parse_yaml
from atd.errors import UserError, printable

__all__ = ["config_hash", "find_config", "load", "restore", "to_yaml"]

_LINE = "command line"

_PAPER: dict[str, Any] = {
    "backbone.features": "last",
    "backbone.standardise": False,
    "atd.generator": "trained",
    "atd.generator_objective": "deceive",
    "atd.generator_diversity": 0.0,
    "atd.normalisation": "batch",
    "atd.finetune": False,
    "atd.alpha": 0.5,
    "atd.steps": 10,  # the paper does not say; its released code takes as many
    "atd.step_schedule": "constant",
    "atd.attack_start": "random",
    "atd.ema": 0.0,
}
_RECIPES = {
    "paper": _PAPER,
    "published": _PAPER | {"atd.generator": "frozen", "atd.as_released": True},
    "opengan": _PAPER | {"pretrain.objective": "standard", "atd.adversarial": False},
}
"""What a recipe sets: ATD by its paper's text, ATD as its released code does it, and OpenGAN, which
is the first without any attack."""

_RETIRED = {"atd.generator_target"}
"""Options of earlier versions that stand in the records of their runs and mean nothing now."""


def find_config(name: str | Path | None) -> Path:
    """Finds a config file: a path, or the name of a shipped one (default `digits`).

    Args:
        name: Path of a YAML file, or a shipped name such as `cifar10`.

    Returns:
        The file's path.

    Raises:
        UserError: There is no such file.
    """
    name = Path(name or "digits")
    package = Path(__file__).parent.parent
    folders = (package.parent / "configs", package / "configs")
    candidates = [
        name,
        *(folder / f"{name.stem}.yaml" for folder in folders if name.parent == Path()),
    ]
    for candidate in candidates:
        if os.path.isfile(candidate):
            return candidate
    shipped = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise UserError(f"{name}: no such config file; shipped configs are {', '.join(shipped)}")


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    r"""Reads a config file and applies overrides.

    Every value is text that the option's type reads: a path is a path whatever characters it
    holds, numbers are decimal or (for floats) fractions, a list is `a,b` or `[a,b]`, in which
    blanks beside commas are dropped and a comma of an element is written `\,`. There is no
    interpolation.

    Args:
        path: YAML file, the name of a shipped config, or None for `configs/digits.yaml`.
        overrides: `key=value` strings with dotted keys, e.g. `atd.epsilon=8/255`.

    Returns:
        The checked configuration.

    Raises:
        UserError: Unknown key, wrong type or impossible value; one line that names the key.
    """
    file = find_config(path)
    try:
        with file.open("rb") as stream:
            values = parse_yaml(stream.read(2**20))
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    return restore(values, str(file), overrides)


def restore(values: Mapping[str, Any], origin: str, overrides: Sequence[str] = ()) -> Config:
    """Rebuilds a config from its `dataclasses.asdict`, e.g. one stored with a detector.

    Args:
        values: The stored options.
        origin: Where they were stored, for messages.
        overrides: `key=value` strings, as in `load`.

    Returns:
        The checked configuration.

    Raises:
        UserError: As `load`.
    """
    origins: dict[str, str] = {}
    try:
        written = _flat(values)
        origins |= dict.fromkeys(written, origin)
        words = dict(_word(item) for item in overrides)
        origins |= dict.fromkeys(words, _LINE)
        return _assemble(_layered(written, words))
    except OptionError as error:
        raise UserError(f"{origins.get(error.key, origin)}: {error}") from None


def _word(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key or override.startswith("-"):
        shown = printable(override, 60)
        raise UserError(f"{shown}: an override is written key=value, e.g. atd.epochs=5")
    return key, value


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by full key, e.g. `atd.epochs`."""
    flat: dict[str, Any] = {}
    for group, options in values.items():
        if not isinstance(options, Mapping):
            flat[str(group)] = options
        else:
            flat |= {f"{group}.{key}": value for key, value in options.items()}
    return {key: value for key, value in flat.items() if key not in _RETIRED}


def _layered(written: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    """Words win over the file; a recipe stands just below where it was named."""
    if "recipe" in words:
        return written | _RECIPES.get(words["recipe"], {}) | words
    return _RECIPES.get(str(written.get("recipe")), {}) | written | words


def _assemble(flat: dict[str, Any]) -> Config:
    groups = option_types(Config)
    known = known_keys(Config)
    values: dict[str, dict[str, Any]] = {}
    alone: dict[str, Any] = {}
    for key, value in flat.items():
        group, _, option = key.partition(".")
        if option and (key in known or is_open(groups.get(group))):
            values.setdefault(group, {})[option] = value
        elif key in known:
            alone[key] = value
        elif _is_group(groups.get(key)) and value not in ("", None):
            example = next(item for item in known if item.startswith(f"{key}."))
            raise OptionError(key, f"{key}: a group of options; write for example {example}=...")
        elif key not in groups:
            raise unknown_key(key, known)
    return Config(**{name: groups[name](**options) for name, options in values.items()}, **alone)


def _is_group(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or is_open(kind)


def to_yaml(config: Config) -> str:
    """Writes a config as YAML that `load` reads back to an equal config."""
    import yaml

    text: str = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    return text


def config_hash(config: Config) -> str:
    """SHA-256 of the resolved options, as hexadecimal text."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

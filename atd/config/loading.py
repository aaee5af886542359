"""YAML file + command-line overrides -> frozen dataclasses; the only place that knows OmegaConf."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from atd.config.options import Config
from atd.errors import UserError

__all__ = ["config_hash", "find_config", "load", "restore", "to_yaml"]

_FRACTION = r"(\d+(?:\.\d+)?)/(0*[1-9]\d*(?:\.\d+)?)"


_PAPER_RECIPE: dict[str, Any] = {
    "backbone": {"features": "last", "standardise": False},
    "atd": {
        "generator": "trained",
        "generator_objective": "deceive",
        "generator_diversity": 0.0,
        "normalisation": "batch",
        "finetune": False,
        "alpha": 0.5,
    },
}


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
        if candidate.is_file():
            return candidate
    shipped = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise UserError(f"{name}: no such config file; shipped configs are {', '.join(shipped)}")


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Reads a config file and applies overrides.

    Args:
        path: YAML file, the name of a shipped config, or None for `configs/digits.yaml`.
        overrides: `key=value` strings with dotted keys, e.g. `atd.epsilon=8/255`.

    Returns:
        The checked configuration.

    Raises:
        UserError: Unknown key, wrong type or impossible value; one line that names the key.
    """
    file = find_config(path)
    return _load(str(file), file.read_text(encoding="utf-8"), overrides)


def restore(values: dict[str, Any], origin: str, overrides: Sequence[str] = ()) -> Config:
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
    return _load(origin, json.dumps(values), overrides)


def _load(origin: str, text: str, overrides: Sequence[str]) -> Config:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        if "=" not in override or override.startswith("-"):
            raise UserError(f"{override}: an override is written key=value, e.g. atd.epochs=5")
    merged = OmegaConf.structured(Config)
    try:
        from_file = OmegaConf.to_container(OmegaConf.create(text or "{}"))
        from_line = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{origin}: not valid YAML: {error}") from None
    if not isinstance(from_file, dict) or not isinstance(from_line, dict):
        raise UserError(f"{origin}: must hold groups of options, e.g. `atd: {{epochs: 5}}`")
    for where, layer in _layers(origin, from_file, from_line):
        try:
            merged = OmegaConf.merge(merged, _fractions(layer))
        except OmegaConfBaseException as error:
            raise UserError(f"{where}: {_explain(error)}") from None
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
    try:
        return cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise UserError(f"{origin}: {_explain(error)}") from None
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None


def _layers(
    origin: str, from_file: dict[Any, Any], from_line: dict[Any, Any]
) -> list[tuple[str, dict[Any, Any]]]:
    """The sources of options, weakest first; a recipe stands just below where it was named."""
    layers = [(origin, from_file), ("command line", from_line)]
    if from_line.get("recipe") == "paper":
        layers.insert(1, ("recipe=paper", _PAPER_RECIPE))
    elif from_file.get("recipe") == "paper":
        layers.insert(0, ("recipe=paper", _PAPER_RECIPE))
    return layers


def _fractions(node: Any) -> Any:
    """Turns strings such as `8/255` into floats and nothing into an empty string."""
    if isinstance(node, dict):
        return {key: _fractions(value) for key, value in node.items()}
    if node is None:  # `key=` on the command line, or `key:` in the file
        return ""
    if isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"{node} is not a finite number")
    if isinstance(node, str) and (match := re.fullmatch(_FRACTION, node)):
        return float(match[1]) / float(match[2])
    return node


def _explain(error: Exception) -> str:
    key = getattr(error, "full_key", None) or ""
    text = str(getattr(error, "msg", None) or error).splitlines()[0]
    if type(error).__name__ in {"ConfigKeyError", "ConfigAttributeError"}:
        nearest = difflib.get_close_matches(key, _all_keys(), n=1, cutoff=0.3)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"{key}: unknown key{hint}"
    return f"{key}: {text}"


def _all_keys() -> list[str]:
    keys = ["recipe"]
    for group in dataclasses.fields(Config):
        if dataclasses.is_dataclass(group.default_factory):
            options = dataclasses.fields(group.default_factory)
            keys += [group.name, *(f"{group.name}.{option.name}" for option in options)]
    return keys


def to_yaml(config: Config) -> str:
    """Writes a config as YAML that `load` reads back to an equal config."""
    import yaml

    text: str = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    return text


def config_hash(config: Config) -> str:
    """SHA-256 of the resolved options, as hexadecimal text."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

"""Frozen dataclasses as JSON and back; reading checks every type, so that nothing odd gets in."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

__all__ = ["from_json", "to_json"]

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Dataclasses, mappings and sequences as what `json` writes.

    A field that is called like a keyword of Python ends in an underscore, its key does not.
    """
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return {name.rstrip("_"): to_json(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], value: Any, where: str = "") -> T:
    """Builds a dataclass from what `to_json` gave; unknown keys are ignored.

    Args:
        kind: The dataclass.
        value: What `json` read.
        where: Key of the value, for messages.

    Returns:
        The dataclass.

    Raises:
        ValueError: A key is missing or a value has another type; one line that names the key.
    """
    return typing.cast(T, _read(kind, value, where))


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return {key: _member(hints[key], value, key, where) for key in hints}
    if origin in (types.UnionType, Union):
        return _any_of(arguments, value, where)
    if origin is Literal:
        return value if value in arguments else _wrong(" or ".join(map(str, arguments)), where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        items = value.items() if isinstance(value, Mapping) else _wrong("an object", where)
        return {str(key): _read(arguments[1], item, f"{where}.{key}") for key, item in items}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = value if isinstance(value, list) else _wrong("a list", where)
        read = [_read(arguments[0], item, where) for item in items]
        return tuple(read) if origin is tuple else read
    return _plain(kind, value, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        key = field.name.rstrip("_")
        optional = field.default is not dataclasses.MISSING
        optional = optional or field.default_factory is not dataclasses.MISSING
        if not (optional and isinstance(value, Mapping) and key not in value):
            found[field.name] = _member(hints[field.name], value, key, where)
    return kind(**found)


def _member(kind: Any, value: Any, key: str, where: str) -> Any:
    place = f"{where}.{key}".lstrip(".")
    if not isinstance(value, Mapping):
        _wrong("an object", where or "the file")
    if key not in value:
        raise ValueError(f"{place}: missing")
    return _read(kind, value[key], place)


def _any_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    for kind in kinds[:-1]:
        try:
            return _read(kind, value, where)
        except ValueError:
            continue
    return _read(kinds[-1], value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return value
    if kind in (int, str, bool) and type(value) is kind:
        return value
    if kind is types.NoneType and value is None:
        return None
    return _wrong({float: "a finite number", int: "a whole number", str: "text"}.get(kind), where)


def _wrong(wanted: str | None, where: str) -> Any:
    raise ValueError(f"{where}: it must be {wanted or 'something else'}")

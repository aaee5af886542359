"""JSON values -> dataclasses: every field has the type that it is declared with, or is refused."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["typed"]

T = TypeVar("T")

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def typed(kind: type[T], values: Mapping[str, Any], *, ignore_unknown: bool = False) -> T:
    """Makes a dataclass from the values of a JSON object; nothing is converted but int to float.

    Args:
        kind: A dataclass.
        values: Values by field; absent ones keep their default.
        ignore_unknown: Leave out keys that are no fields, instead of refusing them.

    Returns:
        The object.

    Raises:
        ValueError: A value of another type or out of range, an unknown key, or a missing one; the
            message names the key.
    """
    hints = get_type_hints(kind, include_extras=True)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [key for key in values if key not in fields]
    if unknown and not ignore_unknown:
        raise ValueError(f"{_shown(unknown[0])} is no option; there are: {', '.join(fields)}")
    missing = dataclasses.MISSING
    for key, item in fields.items():
        if item.default is missing and item.default_factory is missing and key not in values:
            raise ValueError(f"{key} is missing")
    known = {key: value for key, value in values.items() if key in fields}
    return kind(**{key: _fitted(hints[key], value, key) for key, value in known.items()})


def _fitted(hint: Any, value: Any, key: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fitted(arguments[0], value, key)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, key)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            choices = ", ".join(repr(choice) for choice in arguments)
            raise ValueError(f"{key}={_shown(value)}: it must be one of {choices}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise ValueError(f"{key}={_shown(value)}: it must be a list")
        return origin(_fitted(arguments[0], item, key) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{key}={_shown(value)}: it must be an object")
        return value
    return _plain(hint, value, key)


def _one_of(hints: tuple[Any, ...], value: Any, key: str) -> Any:
    if value is None and type(None) in hints:
        return None
    for hint in hints[:-1]:
        try:
            return _fitted(hint, value, key)
        except ValueError:
            continue
    return _fitted(hints[-1] if hints[-1] is not type(None) else hints[0], value, key)


def _plain(kind: type, value: Any, key: str) -> Any:
    refusal = ValueError(f"{key}={_shown(value)}: it must be {_WORDS[kind]}")
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise refusal from None
    if type(value) is not kind:
        raise refusal
    return value


def _shown(value: Any) -> str:
    return ascii(value)[:60]

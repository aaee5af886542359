"""Options from text: what a value means is decided by the type of its option, by nothing else.

One parser serves the command line, config files and stored records. Words are taken as they are
written: a `str` option keeps every character, and nothing is ever looked up or run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from atd.config.ranges import OptionError, Range, require, shown
from atd.errors import nearest, printable

__all__ = ["build", "is_open", "known_keys", "option_types", "settle", "unknown_key"]

T = TypeVar("T")

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_LONGEST_TEXT = 20_000
_LONGEST_NUMBER = 400


def settle(group: Any, name: str) -> None:
    """Reads and checks every option of a group; call it in the group's `__post_init__`.

    Options given as text become what their types say, so a group may be made of words as well as
    of values. A number without a `Range` is a fault of the class.

    Args:
        group: An instance of a dataclass of options.
        name: The group's name, which keys in messages begin with.

    Raises:
        OptionError: A value that is not of its option's type or lies outside its range.
    """
    for option, kind in option_types(type(group)).items():
        if not dataclasses.is_dataclass(kind):
            value = _read(kind, getattr(group, option), _key(name, option))
            object.__setattr__(group, option, value)


def build(
    kind: type[T],
    values: Mapping[str, Any],
    name: str,
    *,
    stored: bool = False,
    ignore_unknown: bool = False,
) -> T:
    """Makes a group of options from what was written.

    Args:
        kind: The group's class.
        values: Options by name, as text or as values.
        name: The group's name, which keys in messages begin with; may be empty.
        stored: They are values of a JSON file of ours, so a number given as text is damage.
        ignore_unknown: Leave out what is no option instead of refusing it.

    Returns:
        The group; options that are not given keep their defaults.

    Raises:
        OptionError: An unknown option, a value of another type, one outside its range, or none
            where there is no default.
    """
    known = option_types(kind)
    for option, value in values.items():
        key = _key(name, option)
        if option not in known:
            if not ignore_unknown:
                raise unknown_key(key, [_key(name, item) for item in known])
        elif stored and isinstance(value, str) and not _takes_text(known[option]):
            raise OptionError(key, f"{key}={shown(repr(value))}: it must not be text")
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        needed = item.default is item.default_factory is dataclasses.MISSING
        if needed and item.name not in values:
            raise OptionError(_key(name, item.name), f"{_key(name, item.name)} is missing")
    return kind(**{option: value for option, value in values.items() if option in known})


def option_types(kind: Any) -> dict[str, Any]:
    """The type of each option of a group, with its `Range`."""
    hints = get_type_hints(kind, include_extras=True)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def known_keys(kind: Any) -> list[str]:
    """Full keys of all options of a class of groups; of an open group, those of its default."""
    keys = []
    types = option_types(kind)
    for item in dataclasses.fields(kind):
        group, name, default = types[item.name], item.name, item.default_factory
        if dataclasses.is_dataclass(group):
            keys += [f"{name}.{option}" for option in option_types(group)]
        elif is_open(group) and default is not dataclasses.MISSING:
            keys += [f"{name}.{option}" for option in default()]
        else:
            keys.append(name)
    return keys


def is_open(group: Any) -> bool:
    """Whether a group takes any option, whose meaning others know."""
    return get_origin(group) is dict


def unknown_key(key: str, known: list[str]) -> OptionError:
    """The error of a key that there is not; it names the nearest one."""
    hint = f"; did you mean {nearest(key, known)}?" if known else ""
    return OptionError(key, f"{printable(key, 60)}: unknown key{hint}")


def _takes_text(kind: Any) -> bool:
    if get_origin(kind) in (list, dict):
        return False
    inner = get_args(kind)
    return kind is str or str in inner or any(isinstance(choice, str) for choice in inner)


def _key(group: str, option: str) -> str:
    return f"{group}.{option}" if group else option


def _read(kind: Any, value: object, key: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _SIMPLE:
        return _SIMPLE[kind](value, key)
    if origin in _COMPOUND:
        return _COMPOUND[origin](arguments, value, key)
    raise TypeError(f"{key}: {kind} is not a type of options; a number needs a Range")


def _read_in_range(arguments: tuple[Any, ...], value: object, key: str) -> float:
    (allowed,) = (mark for mark in arguments[1:] if isinstance(mark, Range))
    found = 0 if allowed.auto and value == "auto" else _read_number(arguments[0], value, key)
    require(found in allowed, key, value, str(allowed))
    return found


def _read_choice(choices: tuple[Any, ...], value: object, key: str) -> Any:
    for choice in choices:
        if value == str(choice) or (value == choice and type(value) is type(choice)):
            return choice
    listed = ", ".join(str(choice) or '""' for choice in choices)
    raise OptionError(key, f"{key}={shown(value)}: it must be one of {listed}")


def _read_list(arguments: tuple[Any, ...], value: object, key: str) -> list[Any]:
    items = _split(value, key) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise OptionError(key, f"{key}={shown(value)}: it must be a list, e.g. {key}=a,b")
    return [_read(arguments[0], item, key) for item in items]


def _read_record(_: tuple[Any, ...], value: object, key: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise OptionError(key, f"{key}={shown(value)}: it must be a group of names and values")
    return value


def _read_optional(kinds: tuple[Any, ...], value: object, key: str) -> Any:
    (kind,) = (item for item in kinds if item is not NoneType)
    empty = value is None or (kind is not str and value in ("", "null", "none"))
    return None if empty else _read(kind, value, key)


def _read_number(kind: type, value: object, key: str) -> float:
    """A number of type int or float; for a float, a fraction such as `8/255` as well."""
    wanted = "a whole number" if kind is int else "a number"
    refusal = OptionError(key, f"{key}={shown(value)}: it must be {wanted}")
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER:
            raise refusal
        if kind is int and re.fullmatch(r"[+-]?[0-9]+", value):
            return int(value)
        match = re.fullmatch(rf"({_NUMBER})(?:/({_NUMBER}))?", value)
        if kind is int or not match or (match[2] and not float(match[2])):
            raise refusal
        return float(match[1]) / float(match[2] or 1)
    if isinstance(value, bool) or not isinstance(value, int | kind):
        raise refusal
    try:
        return kind(value)
    except OverflowError:
        raise refusal from None


def _read_flag(value: object, key: str) -> bool:
    found = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if found is None or not isinstance(value, bool | str):
        raise OptionError(key, f"{key}={shown(value)}: it must be true or false")
    return found


def _read_text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise OptionError(key, f"{key}={shown(value)}: it must be text")
    if "\0" in value or len(value) > _LONGEST_TEXT:
        fault = "a NUL character" if "\0" in value else f"more than {_LONGEST_TEXT} characters"
        raise OptionError(key, f"{key}={shown(value)}: it holds {fault}")
    return value


def _split(text: str, key: str) -> list[str]:
    r"""The elements of `a,b` or `[a,b]`; blanks beside commas are dropped, `\,` is a comma."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].strip()
    if not text:
        return []
    items = [item.replace("\\,", ",").strip() for item in re.split(r"(?<!\\),", text)]
    if not all(items):
        raise OptionError(key, f"{key}={shown(text)}: an element of the list is empty")
    return items


_SIMPLE: dict[Any, Callable[[object, str], Any]] = {bool: _read_flag, str: _read_text}
_COMPOUND: dict[Any, Callable[[tuple[Any, ...], object, str], Any]] = {
    Annotated: _read_in_range,
    Literal: _read_choice,
    Union: _read_optional,
    UnionType: _read_optional,
    list: _read_list,
    dict: _read_record,
}

"""YAML whose scalars stay text: types are the options' business, and nothing in it can act.

Anchors, aliases and tags are refused: no option needs them, and a few hundred bytes of aliases
stand for gigabytes.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml import events

from atd.errors import printable

__all__ = ["parse_yaml"]

_DEEPEST = 8
_LARGEST = 256 * 1024


def parse_yaml(content: bytes) -> dict[str, Any]:
    """Reads a YAML document of nested groups.

    Args:
        content: The file's bytes, UTF-8.

    Returns:
        Groups by name; every leaf is the text as it is written, or a list of texts.

    Raises:
        ValueError: It is not YAML of this kind; one line with the place.
    """
    if len(content) > _LARGEST:
        raise ValueError(f"larger than {_LARGEST // 1024} KiB, so not a config file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8 text; save the file as UTF-8") from None
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        raise ValueError(_place(error)) from None


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid"
    where = f"line {mark.line + 1}: " if mark else ""
    return f"{where}not valid YAML: {printable(str(problem), 100)}"


class _Reader:
    """Turns the parser's events into dicts, lists and texts."""

    def __init__(self, text: str) -> None:
        self.events = yaml.parse(text, Loader=yaml.BaseLoader)
        self.depth = 0

    def document(self) -> dict[str, Any]:
        found: Any = {}
        documents = 0
        for event in self.events:
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise ValueError(f"{_line(event)}: a second document; one file is one config")
                found = self._value(next(self.events))
        if found == "":
            return {}
        if not isinstance(found, dict):
            raise ValueError("must hold groups of options, e.g. `atd: {epochs: 5}`")
        return found

    def _value(self, event: Any) -> Any:
        if isinstance(event, events.AliasEvent) or event.anchor is not None:
            raise ValueError(f"{_line(event)}: anchors (&) and aliases (*) are not read; quote it")
        if event.tag is not None:
            raise ValueError(f"{_line(event)}: tags (!) are not read; quote the value")
        if isinstance(event, events.ScalarEvent):
            return event.value
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"{_line(event)}: nested too deeply")
        inside = self._list() if isinstance(event, events.SequenceStartEvent) else self._group()
        self.depth -= 1
        return inside

    def _list(self) -> list[Any]:
        items = []
        while not isinstance(event := next(self.events), events.SequenceEndEvent):
            items.append(self._value(event))
        return items

    def _group(self) -> dict[str, Any]:
        group: dict[str, Any] = {}
        while not isinstance(event := next(self.events), events.MappingEndEvent):
            key = self._value(event)
            if not isinstance(key, str):
                raise ValueError(f"{_line(event)}: a key must be a word")
            if key in group:
                raise ValueError(f"{_line(event)}: {printable(key, 60)} is given twice")
            group[key] = self._value(next(self.events))
        return group


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"

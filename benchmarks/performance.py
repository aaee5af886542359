"""Writes docs/performance.md from what the speed benchmarks left in docs/performance/.

    python -m benchmarks.performance

The prose stands in `benchmarks/performance.template.md`; every number in it is one of these:

    {{table NAME}}                        the table of NAME.DEVICE.json for each kind of device
    {{times NAME/DEVICE/ROW}}             how many times faster a row is than the published step
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atd.errors import UserError, run_command
from atd.files import write_text
from benchmarks.speed_table import table

__all__ = ["fill"]

_DEVICES = {"cpu": "CPU", "cuda": "CUDA"}
_FIELD = re.compile(r"\{\{(\w+)(?: ([^}]+))?\}\}")

Found = dict[tuple[str, str], dict[str, Any]]


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--results", type=Path, default=Path("docs/performance"))
    options.add_argument("--output", type=Path, default=Path("docs/performance.md"))
    arguments = options.parse_args()
    template = Path(__file__).with_name("performance.template.md").read_text(encoding="utf-8")
    write_text(arguments.output, fill(template, read(arguments.results)))


def read(folder: Path) -> Found:
    """The results in a folder, from files NAME.DEVICE.json, by name and device.

    Raises:
        UserError: There are none.
    """
    found: Found = {}
    for file in sorted(folder.glob("*.*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        found[file.name.split(".")[0], result["setting"]["device"]] = result
    if not found:
        raise UserError(f"{folder}: no results; run python -m benchmarks.train_step --output ...")
    return found


def fill(template: str, found: Found) -> str:
    """The template with every field replaced.

    Raises:
        UserError: A field is unknown.
    """
    fields: dict[str, Callable[[str], str]] = {
        "table": lambda name: _tables(name, found),
        "times": lambda place: _times(place, found),
    }

    def replaced(match: re.Match[str]) -> str:
        kind, argument = match.groups()
        if kind not in fields:
            raise UserError(f"{match[0]}: unknown field; there are {', '.join(fields)}")
        return fields[kind](argument or "")

    return _FIELD.sub(replaced, template)


def _tables(name: str, found: Found) -> str:
    parts = []
    for device, title in _DEVICES.items():
        result = found.get((name, device))
        text = ": not measured yet." if result is None else f"\n\n{table(result)}"
        parts.append(f"**{title}**{text}")
    return "\n\n".join(parts)


def _times(place: str, found: Found) -> str:
    name, device, row = place.split("/", 2)
    rows = {item["name"]: item for item in found.get((name, device), {"rows": []})["rows"]}
    return f"{rows[row]['times_faster']['median']:.1f}" if row in rows else "(not measured)"


if __name__ == "__main__":
    main()

"""The Markdown tables of the pipeline benchmark."""

from __future__ import annotations

from typing import Any

from benchmarks.speed_table import origin, spread

__all__ = ["pipeline_table"]


def pipeline_table(found: dict[str, Any]) -> str:
    """Images from folders, start-up and the digits run, each with its limit."""
    parts = [_loading(found["loading"]), _startup(found["startup"]), _digits(found["digits"])]
    return "\n\n".join([*parts, origin(found)])


def _loading(records: list[dict[str, Any]]) -> str:
    lines = [
        "| images | batch | seconds a step | longer than resident, % | at most, % | loader |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for record in records:
        apart = {key: 100 * value for key, value in record["apart"].items()}
        limit = f"{100 * record['limit']:.0f}" if record["images"] != "resident" else "-"
        cells = [
            f"{record['size']} px, {record['images']}",
            str(record["batch"]),
            spread(record["seconds"], 3),
            spread(apart, 1) if record["images"] != "resident" else "-",
            limit,
            _loader(record),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _loader(record: dict[str, Any]) -> str:
    if "workers" not in record:
        return "-"
    return (
        f"{record['workers']} workers for each of two streams load "
        f"{record['loader_images_per_second']:,.0f} images/s on {record['cores']} cores; "
        f"the step takes {record['images_per_second']:,.0f}"
    )


def _startup(records: list[dict[str, Any]]) -> str:
    lines = ["| command | seconds | at most |", "|---|---:|---:|"]
    lines += [
        f"| `{record['command']}` | {spread(record['seconds'], 2)} | {record['limit']:.0f} |"
        for record in records
    ]
    return "\n".join(lines)


def _digits(found: dict[str, Any]) -> str:
    parts = sorted(found["parts"].items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts)
    return (
        f"The digits run took {found['seconds']:.0f} s, {100 * found['outside']:.0f} % of them "
        f"outside its networks (at most {100 * found['limit']:.0f} %): {named}."
    )

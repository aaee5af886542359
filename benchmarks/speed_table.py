"""The Markdown table of a speed benchmark."""

from __future__ import annotations

from typing import Any

__all__ = ["spread", "table"]

_HEAD = "| step | seconds | times faster |"
_RULE = "|---|---:|---:|"


def table(found: dict[str, Any]) -> str:
    """Rows of a benchmark with medians (quartiles), and where they were measured."""
    cuda = found["setting"]["device"] == "cuda"
    lines = [_HEAD + " peak MiB |" * cuda, _RULE + "---:|" * cuda]
    lines += [_line(row, cuda) for row in found["rows"]]
    return "\n".join([*lines, "", _origin(found)])


def _line(row: dict[str, Any], cuda: bool) -> str:
    options = f" (`{' '.join(row['options'])}`)" if row["options"] else ""
    cells = [
        row["name"] + options,
        spread(row["seconds"], 3),
        spread(row["times_faster"], 2),
    ]
    if cuda:
        cells.append(f"{row['peak_mib']:,.0f}")
    return f"| {' | '.join(cells)} |"


def spread(values: dict[str, float], digits: int) -> str:
    """Median (lower to upper quartile)."""
    median, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def _origin(found: dict[str, Any]) -> str:
    """Setting and provenance in a few lines."""
    setting, facts = found["setting"], found["provenance"]
    size = f"Batch {setting['batch']} per side, PreActResNet-18 of width {setting['width']}"
    options = " ".join(setting["overrides"])
    lines = [size + (f", `{options}`" if options else "") + (", quick" * setting["quick"]) + "."]
    torch_version = facts["versions"].get("torch", "?")
    lines.append(
        f"{facts['hardware']}, torch {torch_version}, commit {facts['commit']}, {facts['date']}."
    )
    return "\n".join(lines)

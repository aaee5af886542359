"""The Markdown table of a speed benchmark."""

from __future__ import annotations

from typing import Any

__all__ = ["origin", "spread", "table"]

_HEAD = (
    "| step | seconds | times faster | peak MiB | GFLOP | GB touched | of matrix ceiling | "
    "of copy ceiling |"
)


def table(found: dict[str, Any]) -> str:
    """Rows of a benchmark with medians (quartiles), and where they were measured."""
    lines = [_HEAD, "|---|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [_line(row) for row in found["rows"]]
    return "\n".join([*lines, "", origin(found)])


def _line(row: dict[str, Any]) -> str:
    peak = f"{row['peak_mib']:,.0f}" if "peak_mib" in row else "-"
    options = f" (`{' '.join(row['options'])}`)" if row["options"] else ""
    cells = [
        row["name"] + options,
        spread(row["seconds"], 3),
        spread(row["times_faster"], 2),
        peak,
        f"{row['flops'] / 1e9:,.1f}",
        f"{row['bytes'] / 1e9:,.2f}",
        f"{100 * row['matrix_share']:.0f} % of {row['precision']}",
        f"{100 * row['copy_share']:.0f} %",
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: dict[str, float], digits: int) -> str:
    """Median (lower to upper quartile)."""
    median, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def origin(found: dict[str, Any]) -> str:
    """Setting, ceilings and provenance in a few lines."""
    setting, facts = found["setting"], found["provenance"]
    network = f"PreActResNet-18 of width {setting['width']}"
    if setting.get("detector"):
        network = f"the trained detector of {setting['detector']}"
    size = f"Batch {setting['batch']} per side, {network}"
    options = " ".join(setting["overrides"])
    lines = [size + (f", `{options}`" if options else "") + (", quick" * setting["quick"]) + "."]
    if "ceilings" in found:
        products = [
            f"{kind} products {value / 1e9:,.0f} GFLOP/s"
            for kind, value in found["ceilings"].items()
            if kind != "copy"
        ]
        copy = f"copy {found['ceilings']['copy'] / 1e9:,.1f} GB/s"
        lines.append(f"Measured ceilings: {', '.join([*products, copy])}.")
    torch_version = facts["versions"].get("torch", "?")
    lines.append(
        f"{facts['hardware']}, torch {torch_version}, commit {facts['commit']}, {facts['date']}."
    )
    return "\n".join(lines)

"""The page of a measurement."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.key_worth import KeyWorth, rows_of

__all__ = ["page"]


def page(found: dict[str, Any], scale: str, output: Path) -> str:
    """What was measured, in Markdown."""
    sizes, facts = found["scale"], found["provenance"]
    names = list(next(iter(found["anomalies"].values())))
    rows = [
        f"| {anomaly} | {found['mean_iou'][anomaly]:.3f} | "
        + " | ".join(f"{row[name]['auroc']:.3f}" for name in names)
        + f" | {row[names[0]]['aupr_out']:.3f} | {row[names[0]]['fpr95_ood']:.3f} |"
        for anomaly, row in found["anomalies"].items()
    ]
    maps = ", ".join(f"{name} {value:.3f}" for name, value in found["map_auroc"].items())
    both = [
        f"| {name} | {row['mean_iou']:.3f} | {row['auroc']:.3f} |"
        for name, row in found["both_at_once"].items()
    ]
    key = KeyWorth(**found["key"])
    others = key.other_keys
    return f"""# DAAIN on semantic segmentation

Scenes of {sizes["size"]} x {sizes["size"]} pixels made offline: digits, discs, triangles and
rectangles over two photographs. An ESPNet-like network of {found["parameters"]:,} parameters was
trained on {sizes["training"]} of them (mean IoU on other parts of the photographs
{found["mean_iou"]["clean"]:.3f}); DAAIN reads {found["dimensions"]} of its activations. ID are
{sizes["tested"]} unchanged test scenes. These are neither the paper's network nor its data
(ESPNet, Cityscapes), so its numbers are not set beside these.

## Who notices what

AUROC per image, anomalies against unchanged scenes; AUPR (anomalies positive) and FPR95 (share of
ID flagged when 95 % of anomalies are) of the first score. All attacks are within
{sizes["epsilon"]:.4f} in L-infinity, the iterative ones of {sizes["attack_steps"]} steps, and know
nothing of the detector. No checks were run on this page.

| input | mean IoU | {" | ".join(names)} | AUPR | FPR95 |
|---|---:|{"---:|" * (len(names) + 2)}
{chr(10).join(rows)}

An AUROC below one half: to that score the input is more ordinary than unchanged scenes are. Flows
are known for it (Nalisnick et al., 2019, arXiv:1810.09136); fog, for one, takes contrast away.

Pixels of unknown objects against the other pixels of the same image, AUROC of the map: {maps}.

## Attacks that know of the detector

The untargeted attack, which also keeps the score where unchanged scenes have it:

| deceives | mean IoU | AUROC of the detector |
|---|---:|---:|
{chr(10).join(both)}

The detector itself, unchanged scenes attacked upwards and fog, frost and unknown objects downwards:

{rows_of(key)}

{len(others)} other keys, {min(others):.3f} to {max(others):.3f}. The key alone is worth
**{key.worth:+.3f}** AUROC: {statistics.mean(others):.3f} with another key, {key.same_key:.3f} with
the same key and a flow fitted anew.

    python -m benchmarks.segmentation --scale {scale} --output {output}

Commit {facts["commit"]}, {facts["hardware"]}, {facts["seconds"]} s, {facts["date"]}.
"""

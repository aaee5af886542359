"""The document: what was measured, then what is planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from benchmarks.scaling.plan import Assumptions
from benchmarks.scaling.throughput import NAMES

__all__ = ["page"]

_TITLES = {
    "helper": "helper (standard training)",
    "hat": "HAT step, whole batch",
    "hat_ghosts": "HAT step, ghost batches",
    "atd": "ATD step",
    "evaluation": "attacked evaluation",
}

_STAGES = (
    "cluster|stage|images/s a GPU|compute ms|gradients ms|statistics ms|efficiency %|"
    "decode, images/s a machine"
)

_UNITS = {
    "peak": (1e12, "TFLOP/s", "peak of a GPU in bfloat16, dense (H100 SXM, data sheet)"),
    "peak_float32": (1e12, "TFLOP/s", "the same in float32, in which evaluation runs"),
    "share": (0.01, "%", "share of the peak in bfloat16 that a step reaches at best"),
    "cautious_share": (0.01, "%", "the same where memory is what convolutions wait for"),
    "share_float32": (0.01, "%", "share of the peak in float32"),
    "link": (1e9, "GB/s", "between GPUs of a machine (80 % of NVLink 4, one direction)"),
    "network": (1e9, "GB/s", "between machines (80 % of one InfiniBand port of 400 Gb/s)"),
    "latency": (1e-6, "microseconds", "a small exchange within a machine"),
    "network_latency": (1e-6, "microseconds", "a small exchange between machines"),
    "cores": (1, "", "CPU cores of a machine that decode images"),
    "test_images": (1, "", "images that are evaluated, ID and OOD together"),
}


def page(found: dict[str, Any]) -> str:
    """The Markdown of what `benchmarks.scaling` found."""
    origin = found["provenance"]
    return f"""# Scale

{_throughput(found)}
{_exchanges(found)}
{_single(found)}
{_plan(found["plan"], found["effort"])}
## Where this comes from

    python -m benchmarks.scaling --output docs/scaling.md

Commit {origin["commit"]}, {origin["date"]}, {origin["hardware"]}, torch
{origin["versions"]["torch"]}, {origin["seconds"]:.0f} seconds.
"""


def _throughput(found: dict[str, Any]) -> str:
    effort, measured = found["effort"], found["throughput"]
    size = effort["size"]
    rows = []
    for name in NAMES:
        item = measured[name]
        rates = [f"{item[side]['median']:.2f}" for side in ("one", "two", "separate")]
        cpu = [f"{item['cpu'][side]:.2f}" for side in ("one", "two", "separate")]
        ratios = [_spread(item[key]) for key in ("speedup", "of_separate")]
        rows.append([_TITLES[name], *rates, *ratios, " / ".join(cpu)])
    head = "work|1 process|2 processes|2 separate jobs|2 against 1|2 against separate|CPU s"
    return f"""## One process and two

Images per second of the product's own steps, one thread a process, gloo on one machine:
PreActResNet-18 of width {size["width"]}, {size["image_size"]} px, {size["steps"]} attack steps,
{effort["batch"]} images a step over all processes (ATD: {effort["batch"]} ID images and as many
outliers), {effort["rounds"]} rounds of one, two, separate after one that does not count. Medians;
in brackets the quartiles of the ratios round by round. The separate jobs exchange nothing, have
half of the batch each and run at the same time: they show what the machine has to give. The last
column is the CPU time of a step, all processes together: 1 / 2 / separate. Where 2 need hardly
more of it than separate jobs and these are not twice as fast as 1, the cores slow each other down.
On one process as on two, ghost batches (`pretrain.ghost_batch`) are of {size["ghost_batch"]} images
here, and an evaluation attacks {size["scoring_batch"]} images at once (`evaluate.batch_size`).

{_table(head, rows)}
"""


def _exchanges(found: dict[str, Any]) -> str:
    measured, rows = found["throughput"], []
    for name in NAMES:
        item = measured[name]["exchanges"]
        alone = measured["reduce"].get(name, {"bytes": 0, "seconds": 0.0})
        gradients = [f"{alone['bytes'] / 1e6:.2f}", f"{1000 * alone['seconds']:.1f}"]
        numbers = [
            str(item["calls"]),
            f"{item['bytes'] / 1e6:.2f}",
            f"{1000 * item['seconds']:.0f}",
        ]
        share = f"{100 * item['share']:.1f}"
        rows.append([_TITLES[name], *gradients, *numbers, share])
    head = "work|gradients MB|alone ms|exchanges|MB|ms|% of the step"
    return f"""## What is exchanged

Of a step of two processes: the gradients and their averaging by itself (nobody late); then all
exchanges of tensors as they happen in the step, waiting for the other process included. With the
statistics of the whole batch, HAT exchanges those of every batch normalisation, forward and
backward; its three groups of images, each normalised by itself, share a pass and so its exchanges.
With ghost batches no larger than a process's share, the running statistics go with the gradients.

{_table(head, rows)}
"""


def _single(found: dict[str, Any]) -> str:
    starts = [[processes, _spread(item, 1)] for processes, item in found["startup"].items()]
    memory = [
        [
            f"{item['images']:,}",
            *(f"{item[key]:.0f}" for key in ("decoded_mb", "process_mb", "worker_mb", "held_mb")),
        ]
        for item in found["streaming"]
    ]
    first, last = found["streaming"][0], found["streaming"][-1]
    decoded = 1000 * last["decoded_mb"] / last["images"]
    peak, held = (
        1000 * (last[key] - first[key]) / (last["images"] - first["images"])
        for key in ("process_mb", "held_mb")
    )
    return f"""## Start-up

Seconds from `torchrun --nproc-per-node N train.py` to the end of the first training step of the
default config: median and quartiles.

{_table("processes|seconds", starts)}

## Memory while streaming

A process and its data worker read a folder of 64 px images once, check it, and stream
{found["effort"]["streamed"]:,} images of it, in as many epochs as that takes, with
`loader.memory_mb=0`. MB: the peaks of resident memory, files mapped into it included; and "held",
the process's own (anonymous) memory at the end, once malloc has given back what it keeps for reuse.
From the first to the last row the peak grows by {peak:.2f} KB an image and what is held by
{held:.2f} KB; decoded, an image takes {decoded:.2f} KB.

{_table("images|decoded they take|process|data worker|held", memory)}

Whether the data pipeline keeps up with the steps: [performance.md](performance.md).
"""


def _plan(plan: dict[str, Any], effort: dict[str, Any]) -> str:
    steps = plan["rows"][0]["steps"]
    size, epochs, cores = effort["planned"], plan["epochs"], plan["assumptions"]["cores"]
    best = max(row["share"] for row in plan["rows"])
    counts = [
        [
            _TITLES[name],
            f"{item['base'] / 1e9:.1f}",
            f"{item['attack'] / 1e9:.1f}",
            f"{item['gradients'] / 1e6:.1f}",
            str(item["norms"]),
        ]
        for name, item in plan["counts"].items()
    ]
    stages = [
        [f"{row['gpus']} GPUs, {row['batch']}", _TITLES[name], *_stage(stage)]
        for row in plan["rows"]
        if row["share"] == best and row["dataset"] == "ImageNet-1k"
        for name, stage in row["stages"].items()
    ]
    hours = [
        [
            row["dataset"],
            f"{row['gpus']} GPUs, {row['batch']}",
            f"{100 * row['share']:.0f}",
            *(f"{value:.2f}" for value in row["hours"].values()),
            f"**{sum(row['hours'].values()):.2f}**",
        ]
        for row in plan["rows"]
    ]
    parts = "|".join(plan["counts"])
    return f"""## A plan for ImageNet on 8 and 32 GPUs

**Arithmetic, not a measurement: no GPU and no second machine was at hand.** The backbone is a
PreActResNet-18 of width {size["width"]} at {size["image_size"]} px with {size["classes"]} classes.
Counted or measured: the operations, by torch's flop counter on the product's own steps; bytes and
numbers of exchanges, from the model and from the two processes above
({plan["exchanges_per_norm"]} exchanges for every pass of a layer of batch normalisation); and
{plan["decode_rate"]:.0f} images a second that one core of this machine decodes from 500 x 375 to
224 x 224. Assumed:

{_table("value|assumption", _assumed(plan["assumptions"]))}

| stage | GFLOP an image | and an attack step | gradients MB | exchanges of statistics a step |
|---|---:|---:|---:|---:|
{_lines(counts)}

A step takes operations / (peak x share), + the averaging of gradients, 2 (n - 1) / n x bytes /
bandwidth among the GPUs of a machine and then among machines, + exchanges x latency; nothing is
overlapped, and ghost batches no larger than a GPU's share would leave the last term out. Efficiency
is the first term's part of the sum. At {100 * best:.0f} % of the peak and the recipe's attack steps
({steps["hat"]} for HAT, {steps["atd"]} for ATD, {steps["evaluation"]} for the evaluation);
"cluster" names the GPUs and the global batch, with which the result is the
same on any number of GPUs:

{_table(_STAGES, stages)}

Images per second are limited by what {cores} cores decode, {cores * plan["decode_rate"]:,.0f} a
second: a stage that needs more (last column) waits for data, and its time in the next table is that
of the data. Pictures stored at the training size decode several times faster.

Hours of the recipe of `{plan["recipe"]}`: {epochs["helper"]} epochs of the helper, {epochs["hat"]}
of HAT, {epochs["atd"]} of ATD with as many outliers as ID images; evaluation of
{plan["assumptions"]["test_images"]:,} images.

{_table("data|cluster|% of peak|" + parts + "|sum", hours)}
"""


def _stage(stage: dict[str, float]) -> list[str]:
    milliseconds = [f"{stage[f'{key}_ms']:.1f}" for key in ("compute", "reduce", "norms")]
    return [
        f"{stage['images_per_second_per_gpu']:,.0f}",
        *milliseconds,
        f"{100 * stage['efficiency']:.0f}",
        f"{stage['decode_needed']:,.0f}",
    ]


def _assumed(values: dict[str, float]) -> Iterable[list[str]]:
    for field in dataclasses.fields(Assumptions):
        unit, name, text = _UNITS[field.name]
        yield [f"{values[field.name] / unit:,.6g} {name}".strip(), text]


def _spread(item: dict[str, float], digits: int = 2) -> str:
    low, high = item["low"], item["high"]
    return f"{item['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _table(head: str, rows: Iterable[Iterable[str]]) -> str:
    titles = head.split("|")
    rule = "|".join("---" if index == 0 else "---:" for index in range(len(titles)))
    return f"| {' | '.join(titles)} |\n|{rule}|\n{_lines(rows)}"


def _lines(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

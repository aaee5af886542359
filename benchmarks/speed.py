"""What the speed benchmarks share: options, the measurement of all rows, JSON and table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atd.errors import UserError, run_command
from atd.files import write_text
from atd.provenance import provenance
from benchmarks.speed_table import table
from benchmarks.timing import Spread, Step, interleave, peak_on_cuda, ratios, synchronise

__all__ = ["OURS", "PUBLISHED", "Row", "Setting", "command", "measure", "parser"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all rows of a benchmark have in common.

    Attributes:
        device: `cpu` or `cuda`.
        batch: Images per step and side.
        width: Width of the PreActResNet-18.
        quick: A small version that only shows that everything works.
        overrides: Options of the config for every row.
    """

    device: str
    batch: int
    width: int
    quick: bool = False
    overrides: tuple[str, ...] = ()

    def config(self, extra: Sequence[str] = ()) -> list[str]:
        """Overrides of the config for a row with these further options."""
        steps = 2 if self.quick else 10
        shared = [
            f"run.device={self.device}",
            f"backbone.width={self.width}",
            f"atd.batch_size={self.batch}",
            f"pretrain.batch_size={self.batch}",
            f"atd.steps={steps}",
            f"pretrain.steps={steps}",
        ]
        return [*shared, *self.overrides, *extra]


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        published: Whether it is the published step, not ours.
        spare: Whether the published step spares the gradients of the parameters in its attack.
        options: Overrides of the config for ours.
    """

    published: bool = False
    spare: bool = False
    options: tuple[str, ...] = ()

    @property
    def compiled(self) -> bool:
        """Whether torch compiles its passes, which takes minutes."""
        return "run.compile=true" in self.options


PUBLISHED = {
    "published style": Row(published=True),
    "published, input gradient only": Row(published=True, spare=True),
}
_BFLOAT16 = "run.precision=bfloat16"
OURS = {
    "ours, float32": Row(),
    "ours, bfloat16": Row(options=(_BFLOAT16,)),
    "ours, bfloat16, compiled": Row(options=(_BFLOAT16, "run.compile=true")),
}
"""The rows of every training benchmark."""

Build = Callable[[str, Setting], Step]


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every speed benchmark takes."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--batch", type=int, help="images per step and side")
    options.add_argument("--width", type=int, default=64, help="width of the PreActResNet-18")
    options.add_argument("--repeats", type=int, help="timed rounds")
    options.add_argument("--quick", action="store_true", help="small: shows that it works")
    options.add_argument("--output", type=Path, help="the JSON file to write")
    options.add_argument("--rows", nargs="+", metavar="NAME", help="only these, and the first")
    options.add_argument("overrides", nargs="*", metavar="key=value", help="for every row")
    return options


def _setting(arguments: argparse.Namespace) -> Setting:
    cuda = arguments.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available; use --device cpu")
    return Setting(
        device=arguments.device,
        batch=arguments.batch or (4 if arguments.quick else 128 if cuda else 64),
        width=4 if arguments.quick else arguments.width,
        quick=arguments.quick,
        overrides=tuple(arguments.overrides),
    )


def command(
    name: str, rows: Mapping[str, Row], build: Build, options: argparse.ArgumentParser
) -> None:
    """The command of a benchmark whose rows are steps; the first row is what all others beat."""
    run_command(lambda: _command(name, rows, build, options))


def _command(
    name: str, rows: Mapping[str, Row], build: Build, options: argparse.ArgumentParser
) -> None:
    arguments = options.parse_intermixed_args()
    setting = _setting(arguments)
    chosen = _chosen(rows, arguments.rows, setting)
    default = 2 if arguments.quick else 20 if setting.device == "cuda" else 5
    started = time.monotonic()
    found = measure(chosen, build, setting, arguments.repeats or default)
    found |= {"benchmark": name, "seconds": time.monotonic() - started}
    found["setting"] = dataclasses.asdict(setting)
    found["provenance"] = provenance(None, seed=0, seconds=found["seconds"])
    if arguments.output is not None:
        write_text(arguments.output, json.dumps(found, indent=1))
    print(table(found))


def _chosen(rows: Mapping[str, Row], names: list[str] | None, setting: Setting) -> dict[str, Row]:
    if names is None:
        # Compiling takes minutes; a quick try is to take seconds.
        return {k: row for k, row in rows.items() if not (setting.quick and row.compiled)}
    for name in names:
        if name not in rows:
            raise UserError(f"--rows {name}: unknown; there are {', '.join(rows)}")
    return {name: row for name, row in rows.items() if name in {next(iter(rows)), *names}}


def measure(rows: Mapping[str, Row], build: Build, setting: Setting, repeats: int) -> Record:
    """Builds every row and times all in turns; on CUDA, also their memory.

    Args:
        rows: The rows; times are compared with the first.
        build: Makes the step of a row.
        setting: What they have in common.
        repeats: Timed rounds.
    """
    steps, resident = {}, {}
    for name in rows:
        held = _allocated(setting)
        steps[name] = build(name, setting)
        steps[name]()
        synchronise(setting.device)
        resident[name] = _allocated(setting) - held
    seconds = interleave(steps, repeats=repeats, device=setting.device, warmup=0)
    base = next(iter(rows))
    records: list[Record] = []
    for name, row in rows.items():
        record = {
            "name": name,
            "options": list(row.options),
            "seconds": Spread.of(seconds[name]).record(),
            "times_faster": Spread.of(ratios(seconds[base], seconds[name])).record(),
        }
        if setting.device == "cuda":
            record["peak_mib"] = peak_on_cuda(steps[name], resident[name])
        records.append(record)
    return {"rows": records}


def _allocated(setting: Setting) -> int:
    return torch.cuda.memory_allocated() if setting.device == "cuda" else 0

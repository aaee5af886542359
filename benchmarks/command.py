"""What the speed benchmarks share: options, the measurement of all rows, JSON and table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from atd.errors import UserError, run_command
from atd.files import write_text
from atd.provenance import provenance
from benchmarks.floor import Work, ceilings, count
from benchmarks.speed_table import table
from benchmarks.timing import (
    Spread,
    Step,
    interleave,
    peak_in_child,
    peak_on_cuda,
    ratios,
    synchronise,
)

__all__ = ["Row", "Setting", "command", "measure", "parser", "setting_from", "finish"]

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
        reference: A checkout of the published repository, or None.
        detector: A trained detector to evaluate, or None.
        eager: Leave compilation out; operations are counted this way.
    """

    device: str
    batch: int
    width: int
    quick: bool = False
    overrides: tuple[str, ...] = ()
    reference: Path | None = None
    detector: Path | None = None
    eager: bool = False

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
        eager = [item for item in extra if not (self.eager and item.startswith("run.compile="))]
        return [*shared, *self.overrides, *eager]


class Row(Protocol):
    """One line of a benchmark's table."""

    @property
    def precision(self) -> str:
        """Arithmetic of most of its products: `float32`, `bfloat16`, or `exact` for float32
        that torch must not replace by TF32."""

    @property
    def options(self) -> tuple[str, ...]:
        """Overrides of the config; empty for variants of the published step."""


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every speed benchmark takes."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--batch", type=int, help="images per step and side (64; CUDA: 128)")
    options.add_argument("--width", type=int, default=64, help="width of the PreActResNet-18")
    options.add_argument("--repeats", type=int, help="timed rounds (5; CUDA: 20)")
    options.add_argument("--quick", action="store_true", help="small: shows that it works")
    options.add_argument("--reference", type=Path, help="a checkout of the published repository")
    options.add_argument("--output", type=Path, help="the JSON file to write")
    options.add_argument("--rows", nargs="+", metavar="NAME", help="only these, and the first")
    options.add_argument("overrides", nargs="*", metavar="key=value", help="for every row")
    return options


def setting_from(arguments: argparse.Namespace, cpu_batch: int = 64) -> Setting:
    """The setting of a command line.

    Args:
        arguments: From `parser`.
        cpu_batch: The batch on a CPU where `--batch` names none.

    Raises:
        UserError: CUDA was asked for and is not there.
    """
    cuda = arguments.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available; use --device cpu")
    return Setting(
        device=arguments.device,
        batch=arguments.batch or (4 if arguments.quick else 128 if cuda else cpu_batch),
        width=4 if arguments.quick else arguments.width,
        quick=arguments.quick,
        overrides=tuple(arguments.overrides),
        reference=arguments.reference,
        detector=getattr(arguments, "detector", None),
    )


def command(
    name: str,
    rows: Mapping[str, Row],
    build: Callable[[str, Setting], Step],
    options: argparse.ArgumentParser,
) -> None:
    """The command of a benchmark whose rows are steps; the first row is what all others beat."""
    run_command(lambda: _command(name, rows, build, options))


def _command(
    name: str,
    rows: Mapping[str, Row],
    build: Callable[[str, Setting], Step],
    options: argparse.ArgumentParser,
) -> None:
    arguments = options.parse_intermixed_args()
    setting = setting_from(arguments)
    chosen = _chosen(rows, arguments.rows, setting)
    default = 2 if arguments.quick else 20 if setting.device == "cuda" else 5
    started = time.monotonic()
    found = measure(chosen, build, setting, arguments.repeats or default)
    finish(name, found, setting, arguments.output, started)


def _chosen(rows: Mapping[str, Row], names: list[str] | None, setting: Setting) -> dict[str, Row]:
    known = {name: row for name, row in rows.items() if setting.reference or name != "reference"}
    if names is None:
        # On a CPU, compiling takes minutes; a quick try is to take seconds.
        return {k: row for k, row in known.items() if not setting.quick or _is_eager(row)}
    for name in names:
        if name not in known:
            raise UserError(f"--rows {name}: unknown; there are {', '.join(known)}")
    first = next(iter(known))
    return {name: row for name, row in known.items() if name in {first, *names}}


def measure(
    rows: Mapping[str, Row],
    build: Callable[[str, Setting], Step],
    setting: Setting,
    repeats: int,
    *,
    memory: bool = True,
) -> Record:
    """Builds every row, counts its work, times all in turns and measures their memory.

    Args:
        rows: The rows; times are compared with the first.
        build: Makes the step of a row.
        setting: What they have in common.
        repeats: Timed rounds.
        memory: Whether memory is measured as well.
    """
    sides = {name: _prepared(name, row, build, setting) for name, row in rows.items()}
    steps = {name: side.step for name, side in sides.items()}
    before = ceilings(setting.device)
    seconds = interleave(steps, repeats=repeats, device=setting.device, warmup=0)
    after = ceilings(setting.device)
    limits = {kind: max(before[kind], after[kind]) for kind in before}
    base = next(iter(rows))
    records: list[Record] = []
    for name, row in rows.items():
        work, median = sides[name].work, Spread.of(seconds[name]).median
        precision = _kind(row.precision, setting)
        record = {
            "name": name,
            "options": list(row.options),
            "seconds": Spread.of(seconds[name]).record(),
            "times_faster": Spread.of(ratios(seconds[base], seconds[name])).record(),
            "flops": work.flops,
            "bytes": work.bytes,
            "precision": precision,
            "matrix_share": work.flops / median / limits[precision],
            "copy_share": work.bytes / median / limits["copy"],
        }
        if memory:
            record["peak_mib"] = _peak(name, sides[name], build, setting)
        records.append(record)
    return {"rows": records, "ceilings": limits}


@dataclass(frozen=True)
class _Side:
    """A step that is warm, what it does, and the bytes on the device that its side holds."""

    step: Step
    work: Work
    resident: int


def _prepared(
    name: str, row: Row, build: Callable[[str, Setting], Step], setting: Setting
) -> _Side:
    held = _allocated(setting)
    step = build(name, setting)
    if _is_eager(row):
        work = count(step)
    else:
        step()
        work = count(build(name, dataclasses.replace(setting, eager=True)))
    synchronise(setting.device)
    return _Side(step, work, _allocated(setting) - held)


def _peak(name: str, side: _Side, build: Callable[[str, Setting], Step], setting: Setting) -> float:
    if setting.device == "cuda":
        return peak_on_cuda(side.step, side.resident)
    small = dataclasses.replace(setting, batch=2, width=4, quick=True, eager=True)
    return peak_in_child(build, (name, small), (name, setting))


def _is_eager(row: Row) -> bool:
    return not any(item.startswith("run.compile=") for item in row.options)


def _allocated(setting: Setting) -> int:
    return torch.cuda.memory_allocated() if setting.device == "cuda" else 0


def _kind(precision: str, setting: Setting) -> str:
    """On CUDA, torch convolves float32 in TF32 unless it is told not to, as evaluation does."""
    if precision == "exact":
        return "float32"
    tf32 = setting.device == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if tf32 and precision == "float32" else precision


def finish(
    name: str,
    found: Record,
    setting: Setting,
    output: Path | None,
    started: float,
    show: Callable[[Record], str] = table,
) -> None:
    """Completes what was found by its setting and provenance, writes it as JSON and shows it.

    Args:
        name: The benchmark.
        found: What it found.
        setting: The setting.
        output: The JSON file, or None.
        started: The monotonic clock at the start.
        show: Makes a table of what was found.
    """
    found |= {"benchmark": name, "seconds": time.monotonic() - started}
    shown = dataclasses.asdict(setting)
    del shown["eager"]
    shown["reference"] = setting.reference is not None
    shown["detector"] = setting.detector.resolve().parent.name if setting.detector else ""
    found["setting"] = shown
    found["provenance"] = provenance(None, seed=0, seconds=found["seconds"])
    if output is not None:
        write_text(output, json.dumps(found, indent=1))
    print(show(found))

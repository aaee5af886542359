"""Command `python -m atd.reproduce WHAT`: makes a table or a figure of the documents."""

from __future__ import annotations

import argparse
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from atd.commands.parser import Parser
from atd.errors import UserError, run_command
from atd.experiments.whats import WHATS

__all__ = ["main"]

_LIST = "\n".join(f"  {what:10} {line}" for what, (_, line) in WHATS.items())

_OF_KINDS = ("detectors", "objectives", "speeds", "certificate", "figure1", "figure2")
"""What has rows that `--kinds` names."""

_EPILOG = f"""\
WHAT is one of
{_LIST}

What is finished is kept beside the page; the same command again goes on. Another --config, or other
options, add a table. A row of detectors is KIND, KIND:WORD (with options), or either with @TRAINING
(on another backbone): atd/experiments/variants.py.

examples:
  python -m atd.reproduce detectors --scale smoke --kinds atd,msp,gaia_z:share
  python -m atd.reproduce detectors --scale small --config configs/cifar10_small.yaml
  python -m atd.reproduce objectives --kinds msp@oe,outlier_class@atom
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m atd.reproduce",
        description="Makes a table or a figure of the documents, with provenance.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=WHATS, metavar="WHAT", help="see below")
    parser.add_argument(
        "--scale",
        choices=("smoke", "small", "paper"),
        default="small",
        help="smoke: tries it; small: judges on few images (default); paper: the config as it is",
    )
    configs = "default: configs/digits.yaml, paper.yaml at scale paper, folder.yaml for own_images"
    parser.add_argument("--config", help=configs)
    page = "the page (default: docs/WHAT.md; at scale smoke, WHAT.md in --work)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=page)
    parser.add_argument("--seeds", type=int, metavar="N", help="default: 3; at scale smoke, 1")
    parser.add_argument(
        "--kinds", metavar="A,B", help=f"rows, of {', '.join(_OF_KINDS)}; default: all"
    )
    parser.add_argument("--work", type=Path, default=Path("checkpoints/reproduce"), metavar="DIR")
    parser.add_argument("--data", type=Path, metavar="DIR", help="own_images: the image sets")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of the config")
    return parser


def _run(given: argparse.Namespace) -> None:
    from atd.experiments.order import Order
    from atd.experiments.setting import Setting

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("python -m atd.reproduce: runs in one process; start it without a launcher")
    smoke = given.scale == "smoke"
    seeds = given.seeds if given.seeds is not None else 1 if smoke else 3
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give at least 1")
    usual = "paper" if given.scale == "paper" else "digits"
    usual = "folder" if given.what == "own_images" else usual
    config = given.config or f"configs/{usual}.yaml"
    order = Order(
        setting=Setting(config, given.scale, tuple(given.overrides)),
        seeds=tuple(range(seeds)),
        output=given.output or (given.work if smoke else Path("docs")) / f"{given.what}.md",
        work=given.work,
        data=given.data,
        kinds=_kinds(given.what, given.kinds),
    )
    pkgutil.resolve_name(f"atd.experiments.{WHATS[given.what][0]}:reproduce_{given.what}")(order)
    print(order.output)


def _kinds(what: str, words: str | None) -> tuple[str, ...]:
    """The rows that were named; speeds are of kinds as they are."""
    from atd.detectors.kinds import kind_class
    from atd.experiments.variants import variant

    if words is None:
        return ()
    if what not in _OF_KINDS:
        raise UserError(f"--kinds: {what} has rows of its own; leave --kinds out")
    kinds = tuple(kind.strip() for kind in words.split(",") if kind.strip())
    for kind in kinds:
        (kind_class if what == "speeds" else variant)(kind, "--kinds")
    return kinds


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with these words, or with those of the process."""
    options = _parser().parse_intermixed_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

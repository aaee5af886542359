"""Command `python -m atd.reproduce WHAT`: makes a table of the documents."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from atd.errors import UserError, run_command

__all__ = ["main"]

_EPILOG = """\
detectors: every kind of detector on one backbone a seed, judged under one attack. The page names
the method, what came out, the verdict and the speed of each kind. Every finished row is kept in the
JSON file beside the page; the same command again goes on. Another --config, or other options, add a
table to the page.

examples:
  python -m atd.reproduce detectors --scale smoke
  python -m atd.reproduce detectors --scale small --kinds atd,msp,gaia_z --seeds 1
  python -m atd.reproduce detectors --scale small --config configs/cifar10_small.yaml \\
      backbone.weights=checkpoints/cifar10_small/detector
  python -m atd.reproduce detectors --scale small pretrain.objective=standard
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m atd.reproduce",
        description="Makes a table of the documents, with provenance.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("detectors",), metavar="WHAT", help="detectors")
    parser.add_argument(
        "--scale",
        choices=("smoke", "small"),
        default="small",
        help="smoke: a minute, to see that it runs; small: the config as it is (default)",
    )
    parser.add_argument("--config", default="configs/digits.yaml", help="default: %(default)s")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: docs/detectors.md; at scale smoke, detectors.md in --work)",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="default: 3; at scale smoke, 1")
    parser.add_argument("--kinds", metavar="A,B", help="default: all kinds")
    parser.add_argument("--work", type=Path, default=Path("checkpoints/reproduce"), metavar="DIR")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of the config")
    return parser


def _run(given: argparse.Namespace) -> None:
    from atd.detectors.kinds import KINDS, kind_class
    from atd.experiments.detectors import measure_detectors
    from atd.experiments.setting import Setting

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("python -m atd.reproduce: runs in one process; start it without a launcher")
    smoke = given.scale == "smoke"
    seeds = given.seeds if given.seeds is not None else 1 if smoke else 3
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give at least 1")
    kinds = list(KINDS)
    if given.kinds is not None:
        kinds = [kind.strip() for kind in given.kinds.split(",") if kind.strip()]
        for kind in kinds:
            kind_class(kind, "--kinds")
    output = given.output or (given.work if smoke else Path("docs")) / "detectors.md"
    setting = Setting(config=given.config, scale=given.scale, overrides=tuple(given.overrides))
    measure_detectors(setting, kinds, range(seeds), output=output, work=given.work)
    print(output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        arguments: Words of the command line; None takes the process's own.
    """
    options = _parser().parse_intermixed_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

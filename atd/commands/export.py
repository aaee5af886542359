"""Command `python -m atd.export DETECTOR`: writes a detector as .pt2 and ONNX files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from atd.commands.parser import Parser
from atd.errors import run_command

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="atd-export",
        description="Exports a detector to files that run without this package. Input: uint8 "
        "NCHW at any batch size; output: the score, larger = more likely out-of-distribution.",
        epilog="Every file is checked against the detector, also on attacked images. Claims of "
        "robustness hold for the float32 files written here; attack a quantised one anew.",
    )
    parser.add_argument("detector", metavar="DETECTOR", help="a detector folder")
    parser.add_argument("--formats", default="pt2,onnx", help="default: %(default)s")
    parser.add_argument(
        "--output", metavar="DIR", help="default: the folder `export` beside DETECTOR"
    )
    parser.add_argument(
        "--opset", type=int, default=20, metavar="N", help="of ONNX; default: %(default)s"
    )
    parser.add_argument(
        "--part",
        choices=("detector", "discriminator"),
        default="detector",
        help="discriminator: ATD's alone, which takes the backbone's features",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        default=[],
        metavar="IMAGES",
        help="files and folders of ID images, by which onnx-int8 is rounded and judged",
    )
    parser.add_argument(
        "--ood",
        nargs="+",
        default=[],
        metavar="IMAGES",
        help="OOD images to judge onnx-int8 by; default: the ID images altered",
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from atd.detectors.export import export_detector
    from atd.detectors.formats import FORMATS

    formats = [name.strip() for name in arguments.formats.split(",") if name.strip()]
    part = arguments.part
    default = "export" if part == "detector" else f"export-{part}"
    output = arguments.output or Path(arguments.detector).resolve().parent / default
    folder = export_detector(
        Path(arguments.detector),
        output,
        formats,
        opset=arguments.opset,
        part=part,
        calibration=arguments.calibration,
        ood=arguments.ood,
    )
    for name in [*(FORMATS[kind].name(part) for kind in formats), "manifest.json"]:
        print(folder / name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        arguments: Words of the command line; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    run_command(lambda: _run(options))


if __name__ == "__main__":
    main()

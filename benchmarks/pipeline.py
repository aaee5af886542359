"""What surrounds the computing: images from folders, start-up, and the digits run's overhead.

python -m benchmarks.pipeline --output docs/performance/pipeline.cpu.json
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from atd.errors import run_command
from benchmarks.command import finish, parser, setting_from
from benchmarks.loading import loading
from benchmarks.pipeline_table import pipeline_table
from benchmarks.startup import outside_share, startup

__all__: list[str] = []

_QUICK = ["pretrain.epochs=1", "pretrain.helper_epochs=1", "atd.epochs=1", "evaluate.tier=smoke"]


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--steps", type=int, help="steps of a block (4; CUDA: 40)")
    arguments = options.parse_intermixed_args()
    setting = setting_from(arguments, cpu_batch=16)
    started = time.monotonic()
    steps = arguments.steps or (2 if setting.quick else 40 if setting.device == "cuda" else 4)
    with tempfile.TemporaryDirectory() as folder:
        loaded = loading(setting, Path(folder), steps=steps, repeats=arguments.repeats or 3)
    found = {
        "loading": loaded,
        "startup": startup(2 if setting.quick else 5),
        "digits": outside_share(_QUICK if setting.quick else []),
    }
    finish("pipeline", found, setting, arguments.output, started, pipeline_table)


if __name__ == "__main__":
    main()

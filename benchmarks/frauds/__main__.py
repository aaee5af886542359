"""Do the checks of an evaluation catch detectors that only look robust, and no honest one?

    python -m benchmarks.frauds

Trains the detectors that are missing, evaluates every honest one, then every fraud on every base;
a fraud that no check caught is attacked again at the strong tier. What was found is kept in the
JSON file beside the document; the same command goes on where it stopped, and `--only NAME ...`
judges these anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.errors import UserError, run_command
from atd.evaluation.protocol import evaluate
from atd.evaluation.settings import settings_from
from atd.files import write_text
from atd.provenance import provenance
from atd.records import to_json
from benchmarks.frauds.honest import BASES, HONEST, Workshop
from benchmarks.frauds.planted import FRAUDS
from benchmarks.frauds.table import page

_FAR_SETS = 3
_QUICK = ["pretrain.epochs=2", "pretrain.helper_epochs=1", "atd.epochs=1"]

Record = dict[str, Any]


def main() -> None:
    run_command(_main)


def _main() -> None:
    arguments = _parser().parse_intermixed_args()
    _require_known(arguments.only)
    tier, limit = ("smoke", 32) if arguments.quick else (arguments.tier, arguments.limit)
    common = [f"evaluate.tier={tier}", f"evaluate.limit={limit}", "evaluate.baselines=[]"]
    if arguments.quick:
        common, arguments.work = [*common, *_QUICK], arguments.work / "quick"
    shop = Workshop(arguments.config, [*common, *arguments.overrides], arguments.work)
    file = arguments.output.with_suffix(".json")
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for key, name, base in _subjects(arguments.bases):
        known = key in found and name not in arguments.only
        if known or (arguments.only and name not in arguments.only):
            continue
        print(f"{key} ...", flush=True)
        found[key] = {"name": name, "base": base, **_judge(shop, name, base)}
        facts = provenance(shop.config(base or name), seed=0, seconds=0.0)
        write_text(file, json.dumps(found, indent=1))
        write_text(arguments.output, page(found, arguments.config, facts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frauds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--config", default="configs/digits.yaml")
    parser.add_argument("--output", type=Path, default=Path("docs/frauds.md"))
    parser.add_argument("--work", type=Path, default=Path("checkpoints/frauds"))
    parser.add_argument("--tier", default="paper", help="tier of the first evaluation")
    parser.add_argument("--limit", type=int, default=100, help="images per set")
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES), metavar="NAME")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="judge these anew")
    parser.add_argument("--quick", action="store_true", help="hardly trained, weakly attacked")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


def _require_known(names: list[str]) -> None:
    for name in names:
        if name not in (*HONEST, *FRAUDS):
            raise UserError(f"--only {name}: unknown; choose from {', '.join((*HONEST, *FRAUDS))}")


def _subjects(bases: list[str]) -> list[tuple[str, str, str | None]]:
    """Key, name and base of everything that is judged; honest detectors have no base."""
    honest: list[tuple[str, str, str | None]] = [(name, name, None) for name in HONEST]
    return honest + [(f"{name} on {base}", name, base) for base in bases for name in FRAUDS]


def _judge(shop: Workshop, name: str, base: str | None) -> Record:
    """What an evaluation says of a detector; for a fraud, what first caught it."""
    detector = shop.detector(base or name)
    if base is not None:
        detector = FRAUDS[name](detector)  # type: ignore[arg-type]
    # Images are transferred from a detector that shares neither seed nor weights.
    source = shop.detector("seed 0" if "seed 1" in (name, base) else "seed 1")
    config = shop.config(base or name)
    record = _evaluated(detector, shop.splits, config, name, source)
    if base is not None and not record["failed"] and not record["refused"]:
        strong = dataclasses.replace(config.evaluate, tier="strong")
        config = dataclasses.replace(config, evaluate=strong)
        fresh = FRAUDS[name](shop.detector(base))  # type: ignore[arg-type]
        record["strong"] = _evaluated(fresh, shop.splits, config, name, source)
    return record


def _evaluated(
    detector: Detector, splits: DataSplits, config: Config, name: str, source: Detector
) -> Record:
    started = time.monotonic()
    try:
        results = evaluate(
            detector,
            _few(splits, config),
            settings_from(config, progress=False),
            name=name,
            sources={"another detector": source},
            config=config,
        ).results
    except UserError as error:
        return {"refused": str(error), "failed": []}
    checks = results.checks
    return {
        "refused": "",
        "failed": [check for check in checks if not checks[check].passed],
        "mean": {key: values["auroc"] for key, values in results.mean.items()},
        "checks": {check: checks[check].value for check in checks},
        "attack": to_json(results.attack),
        "sets": list(results.mean_over),
        "images": results.id.images,
        "commit": results.provenance.commit,
        "seconds": round(time.monotonic() - started, 1),
    }


def _few(splits: DataSplits, config: Config) -> EvaluationSets:
    far = [name for name, role in splits.roles.items() if role == "far"][:_FAR_SETS]
    few = dataclasses.replace(splits, ood_test={name: splits.ood_test[name] for name in far})
    return EvaluationSets.of(few).limited(config.evaluate.limit, 0)


if __name__ == "__main__":
    main()

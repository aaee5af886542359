"""How the product does on pictures as users have them: sets of one's own, with held-out classes.

`--data DIR` holds a folder for each ID set, with its class folders in `DIR/NAME/id` and held-out
classes in `DIR/NAME/near`, and photographs of anything else in `DIR/far/SET`. A far set that is
called like the ID set is not tested against it.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from atd.config import Config, load
from atd.data.listing import list_images
from atd.data.ood_tests import listed_tests
from atd.errors import UserError
from atd.evaluation.results import Dataset, Results
from atd.experiments.missing import Record, Runs, finished_runs, run_missing, typed
from atd.experiments.order import Order
from atd.metrics import CONDITIONS
from atd.pipeline import Run
from atd.planning.plan import needs_helper, pretrains
from atd.records import to_json
from atd.reporting.own_images_page import OwnRow, own_images_page
from atd.training.pretraining_validation import accuracy
from atd.training.processes import Processes

__all__ = ["page", "reproduce_own_images"]

_FAR = "far"
_BUDGET = "run.budget=30m"
_SMOKE = ("pretrain.min_steps=0", "pretrain.helper_min_steps=0", "atd.min_steps=0")
_LONGER = 3
"""Times the helper's steps that a plain classifier is trained for where there is a helper."""


def reproduce_own_images(order: Order) -> None:
    """Makes the page.

    Raises:
        UserError: `--data` lacks what is expected, bad options, or damaged rows.
    """
    if order.data is None:
        raise UserError(
            "--data: name a folder with NAME/id (class folders), NAME/near (held-out classes) and "
            "far/SET (other photographs)"
        )
    sets = _sets(order.data)
    rows = {f"{order.setting.name}/{name}": name for name in sets}

    def configure(row: str, seed: int) -> Config:
        return _config(order, rows[row], seed)

    def measure(row: str, config: Config) -> Record:
        told = {**to_json(order.setting), "name": rows[row], "files": _files(order.data, rows[row])}
        return {**told, **_measured(config, _names(order.data, rows[row]))}

    _require_same(order, rows)
    run_missing(
        order.output,
        rows,
        order.seeds,
        setting=order.setting,
        configure=configure,
        measure=measure,
        page=page,
    )


def _require_same(order: Order, rows: Mapping[str, str]) -> None:
    """Sets of one name are not to be taken for one another; older rows do not count files."""
    file = order.output.with_suffix(".json")
    for key, run in finished_runs(file).items():
        name = rows.get(key.rpartition("/")[0])
        if name and "files" in run and run["files"] != _files(order.data, name):
            raise UserError(
                f"{file}: its row {key} is of other images than {order.data} holds now; choose "
                "another --output and --work"
            )


def page(runs: Runs) -> str:
    """The page of finished runs."""
    return own_images_page(list(typed(OwnRow, runs).values()))


def _sets(data: Path) -> list[str]:
    found = sorted(folder.parent.name for folder in data.glob("*/id") if folder.is_dir())
    if not found:
        raise UserError(
            f"{data}: no ID set in it; expected class folders in {data / 'NAME' / 'id'}"
        )
    return [name for name in found if name != _FAR]


def _names(data: Path | None, inside: str) -> list[str]:
    """The far sets of photographs for an ID set."""
    assert data is not None
    folders = sorted(item.name for item in (data / _FAR).glob("*") if item.is_dir())
    return [name for name in folders if name != inside]


def _files(data: Path | None, inside: str) -> dict[str, int]:
    """How many images there are in each folder that a row reads."""
    assert data is not None
    folders = {part: data / inside / part for part in ("id", "near")}
    folders |= {f"{_FAR}/{name}": data / _FAR / name for name in _names(data, inside)}
    return {part: len(list_images(it)) for part, it in folders.items() if it.is_dir()}


def _config(order: Order, name: str, seed: int) -> Config:
    setting, data = order.setting, order.data
    assert data is not None
    own = load(setting.config).data.ood_test
    far = [f"{item}=folder:{data / _FAR / item}" for item in _names(data, name)]
    listed = ",".join(item.replace(",", "\\,") for item in [*own, *far])
    words = [f"data.id=folder:{data / name / 'id'}", f"data.ood_test=[{listed}]"]
    if (data / name / "near").is_dir():
        words.append(f"data.near_test=[near=folder:{data / name / 'near'}]")
    if setting.scale == "smoke":
        words += _SMOKE
    elif not any(word.startswith("run.budget=") for word in setting.overrides):
        words.append(_BUDGET)
    folder = order.work / f"{setting.name}-{name}-{seed}"
    return setting.resolved("atd", seed, folder, *words)


def _measured(config: Config, far: list[str]) -> Record:
    """Trains, judges, and compares the helper with a plain classifier."""
    processes = Processes(config.run.device, config.run.timeout_minutes)
    started = time.monotonic()
    run = Run(config, processes)
    results = run.execute()
    seconds = run.clock.spent if config.run.seconds else time.monotonic() - started
    assert run.splits is not None
    unseen = [test.name for test in listed_tests(config.data) if test.name not in (*far, "near")]
    network = run.config.backbone
    return {
        "classes": len(run.splits.id_train.classes),
        "images": len(run.splits.id_train),
        "image_size": run.config.data.image_size,
        "network": f"width {network.width}, stem {network.stem_stride or 'auto'}",
        "steps": _steps(run.config),
        "plain_steps": _plain_steps(run.config),
        "budget": config.run.budget,
        "seconds": seconds,
        "accuracy": _accuracies(run),
        "far": _means(results, far),
        "unseen": _means(results, unseen),
        "near": _means(results, ["near"]),
        "sets": {name: _aurocs([one]) for name, one in results.datasets.items()},
        "tier": results.attack.tier,
        "epsilon": results.attack.epsilon,
        "judged": results.id.images,
        "verdict": results.verdict,
    }


def _steps(config: Config) -> list[int]:
    pretrain, atd = config.pretrain, config.atd
    return [pretrain.helper_min_steps, pretrain.min_steps, atd.min_steps]


def _plain_steps(config: Config) -> int:
    """What a classifier trained without attacks takes; a budget plans a helper's for HAT only."""
    pretrain = config.pretrain
    longer = _LONGER * pretrain.helper_min_steps
    return max(longer if needs_helper(config) else pretrain.min_steps, 1)


def _means(results: Results, names: Iterable[str]) -> dict[str, float]:
    found = [results.datasets[name] for name in names if name in results.datasets]
    return _aurocs(found) if found else {}


def _aurocs(sets: list[Dataset]) -> dict[str, float]:
    return {
        condition: statistics.mean(one[condition]["auroc"] for one in sets)
        for condition in CONDITIONS
    }


def _accuracies(run: Run) -> dict[str, float]:
    """Of the helper, a plain classifier and the backbone, on the ID test images."""
    assert run.splits is not None
    test, processes = run.splits.id_test, run.processes
    if not test.classes:
        return {}
    helper = Run(run.config, processes, run.splits).until("helper").helper
    steps = _plain_steps(run.config)
    pretrain = dataclasses.replace(run.config.pretrain, objective="standard", min_steps=steps)
    plain = dataclasses.replace(
        run.config,
        pretrain=pretrain,
        run=dataclasses.replace(
            run.config.run, budget="", dir=str(run.config.run.folder / "plain")
        ),
    )
    classifier = Run(plain, processes, run.splits).until("pretrain").backbone
    robust = run.backbone if pretrains(run.config) else None  # given weights may lack these classes
    models = {"helper": helper, "plain": classifier, "robust": robust}
    return {
        name: accuracy(model.eval(), test, processes)
        for name, model in models.items()
        if model is not None
    }

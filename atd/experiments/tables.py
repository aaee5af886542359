"""The paper's tables 1, 3 and 5: methods under its own attack and under a stronger one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atd.config import Config, load
from atd.data.sources import source_name
from atd.errors import UserError
from atd.evaluation.judgement import judge_detector
from atd.experiments.far_sets import (
    ATTACKS,
    attack_facts,
    judge_far_sets,
    limited_sets,
    settings_at,
    words_of,
)
from atd.experiments.methods import ABLATIONS, ATOM, COMPARED, WHY, Method
from atd.experiments.missing import Record, Runs, finished_runs, run_missing, typed, write
from atd.experiments.order import Order
from atd.experiments.setting import Setting
from atd.experiments.variants import TRAININGS
from atd.experiments.workshop import Workshop, network_words
from atd.metrics import CONDITIONS
from atd.records import to_json
from atd.reporting.method_table import MethodRow, Shown, methods_page

__all__ = [
    "TABLE1",
    "TABLE3",
    "TABLE5",
    "agrees",
    "page",
    "reproduce_table1",
    "reproduce_table3",
    "reproduce_table5",
]

_REFERENCE = "ATD, the paper's text"

_ALIKE = """\
`recipe=paper` is what the paper's text says, `recipe=published` what its released code does
([findings.md](findings.md)), and the last row the recipe of this package. All networks of a seed
are trained on the same images, with the same number of epochs and the same radius; ATD's by HAT
unless the row says otherwise, whatever the config does, and the last row trains its copy further
where the config has `atd.finetune`. Attacks take the raw score, and for each image the worst
iterate counts. Where data or setting differ from the paper's (another config than
`configs/paper.yaml`), its numbers are not quoted: they would be those of other images, networks and
radii. Where they are quoted, this still differs: the paper's network was trained on
500,000 further images, its images were decoded and resized by other code, and the discriminator was
chosen on SVHN's test images."""

_STEPS = (
    "The paper attacks its baselines with 10 steps of PGD and ATD with 100; here all get as many."
)


def _shown(methods: Mapping[str, Method]) -> dict[str, Any]:
    """The rows of a page and what the paper says of them."""
    published = {name: method.paper.get("cifar10", ()) for name, method in methods.items()}
    return {
        "rows": tuple(methods),
        "published": {name: numbers for name, numbers in published.items() if numbers},
        "reference": _REFERENCE,
        "why": WHY,
    }


TABLE1 = Shown(
    "table1",
    "Table 1: methods under attack",
    "Every method of the paper's table 1: what a network is trained for, and in brackets what is "
    "read off it (MD: Mahalanobis distance, RMD: relative Mahalanobis distance).",
    "Networks of the same kind that are trained without attacks stand in for the paper's vision "
    "transformer, which was pre-trained on ImageNet-21k. OpenGAN scores each image for itself; the "
    "paper's scores depended on the other images of their batch (`atd.batch_statistics=true`). "
    f"{_STEPS}\n\n{_ALIKE}",
    **_shown(COMPARED),
)
TABLE3 = Shown(
    "table3",
    "Table 3: what ATD is made of",
    "The paper's ablations: `recipe=paper` with one part changed at a time.",
    "The marks that tell the paper's rows apart were lost in the text that we have; that the lower "
    "of the two rows without a network is the one whose generated images are attacked too follows "
    "from its section 4.2.\n\n" + _ALIKE,
    **_shown(ABLATIONS),
)
TABLE5 = Shown(
    "table5",
    "Table 5: ATOM",
    "ATOM (Chen et al., 2021) mines outliers and gives them a class of their own. It defends OOD "
    "images alone; the paper attacks ID images as well.",
    "Outliers are mined among those of the config, not among 80 million tiny images. On the "
    "CIFAR-10 images ATOM's network is unfinished: by its log a fifth of the held-out images are "
    "right after six epochs, so its row there says little of ATOM.\n\n" + _ALIKE,
    **_shown(ATOM),
)


def reproduce_table1(order: Order) -> None:
    """Makes the table of methods."""
    _reproduce(order, COMPARED, TABLE1)


def reproduce_table3(order: Order) -> None:
    """Makes the table of ablations."""
    _reproduce(order, ABLATIONS, TABLE3)


def reproduce_table5(order: Order) -> None:
    """Makes the comparison with ATOM."""
    _reproduce(order, ATOM, TABLE5)


def _reproduce(order: Order, methods: Mapping[str, Method], shown: Shown) -> None:
    for setting in _settings(order, methods):
        _measure_all(dataclasses.replace(order, setting=setting), methods, shown)


def _settings(order: Order, methods: Mapping[str, Method]) -> list[Setting]:
    """That of the order and, where the paper has CIFAR-100 as well, the same with its images."""
    setting, second = order.setting, "data.id=cifar100"
    if setting.scale != "paper" or methods is ABLATIONS:
        return [setting]
    data = load(setting.config, setting.overrides).data
    named = any(words.startswith("data.id=") for words in setting.overrides)
    if named or data.id != "cifar10" or data.id_test:  # those of torchvision, with its test images
        return [setting]
    return [setting, dataclasses.replace(setting, overrides=(*setting.overrides, second))]


def _measure_all(order: Order, methods: Mapping[str, Method], shown: Shown) -> None:
    setting = order.setting
    shop = Workshop(setting, order.work)
    # Methods of one network come one after the other, so that it is read once.
    by_network = sorted(
        methods, key=lambda name: (not methods[name].training, methods[name].training)
    )
    names = {f"{setting.name}/{name}": name for name in by_network}

    def measure(row: str, config: Config) -> Record:
        method = methods[names[row]]
        told = {
            **to_json(setting),
            "method": names[row],
            "options": _options(method),
            "network": network_words(config) if method.training else "none",
            "quoted": _quoted(method, config),
        }
        shop.prepare(method, config.run.seed)
        try:
            return {**told, **_measured(shop, method, config)}
        except UserError as error:  # of this method: the images and the network are there
            return {**told, "refused": str(error)}

    _take_over(order.output, setting, {row: _options(methods[name]) for row, name in names.items()})
    run_missing(
        order.output,
        names,
        order.seeds,
        setting=setting,
        configure=lambda row, seed: shop.config(methods[names[row]], seed),
        measure=measure,
        page=lambda runs: page(runs, shown),
    )


def _take_over(output: Path, setting: Setting, wanted: Mapping[str, list[str]]) -> None:
    """Takes rows from the other tables beside this one: some methods stand in several."""
    file = output.with_suffix(".json")
    runs = finished_runs(file)
    found = {
        key: run
        for other in ("table1", "table3", "table5")
        for key, run in finished_runs(file.with_name(f"{other}.json")).items()
        if run.get("options") == wanted.get(key.rpartition("/")[0])
        and setting.made(run)
        and "refused" not in run
    }
    if found.keys() - runs.keys():
        write(file, json.dumps({**found, **runs}, indent=1))


def page(runs: Runs, shown: Shown) -> str:
    """The page of finished runs."""
    return methods_page(list(typed(MethodRow, runs).values()), shown)


def _options(method: Method) -> list[str]:
    kind = [] if method.kind == "atd" else [f"detector.kind={method.kind}"]
    return [*TRAININGS.get(method.training, ()), *kind, *method.options]


def _measured(shop: Workshop, method: Method, config: Config) -> Record:
    detector, splits = shop.detector(method, config.run.seed)
    sets = limited_sets(splits, config)
    plain, stronger = (
        settings_at(config, shop.processes, **options) for options in ATTACKS[shop.setting.scale]
    )
    found = judge_far_sets(detector, sets, plain)
    judged = judge_detector(detector, sets, stronger, (), lambda passes: None)
    return {
        "id_name": splits.id_test.name,
        "images": len(sets.id_test),
        "mean_over": judged.averaged,
        "paper_attack": words_of(found),
        "plain": found["mean"],
        "stronger_attack": words_of({"attack": attack_facts(stronger)}),
        "stronger": {name: judged.mean[name]["auroc"] for name in CONDITIONS},
        "verdict": judged.verdict,
    }


def _quoted(method: Method, config: Config) -> list[float]:
    return list(method.paper.get(source_name(config.data.id), ())) if agrees(config) else []


def agrees(config: Config) -> bool:
    """Whether data and attack are the paper's, so that its numbers may stand beside ours."""
    data = config.data
    return (
        data.protocol == "paper"
        and source_name(data.id) in ("cifar10", "cifar100")
        and source_name(data.outliers) == "food101"
        and data.image_size == 32
        and not (data.id_limit or data.outlier_limit)
        and math.isclose(config.evaluation_epsilon, 8 / 255, rel_tol=1e-3)
        and config.evaluate.norm == "linf"
    )

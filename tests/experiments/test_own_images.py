"""Folders of one's own in a table: which sets are tested against which, and the page."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from atd.config import load
from atd.errors import UserError
from atd.evaluation.results import Provenance
from atd.experiments import own_images
from atd.experiments.order import Order
from atd.experiments.own_images import reproduce_own_images
from atd.experiments.setting import Setting
from atd.reporting.own_images_page import OwnRow, own_images_page

MEANS = dict.fromkeys(("clean", "in", "out", "both"), 0.9)


def pictures(folder, count, seed):
    """Images of random pixels in a folder."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    for index in range(count):
        pixels = draws.integers(0, 256, (20, 22, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.fixture
def order(tmp_path):
    data = tmp_path / "data"
    for seed, name in enumerate(("apples", "pears")):
        for place, part in enumerate(("id/red", "id/green", "near/brown")):
            pictures(data / name / part, 12, seed=10 * seed + place)
    for seed, name in enumerate(("apples", "places")):
        pictures(data / "far" / name, 6, seed=100 + seed)
    options = ("run.device=cpu", "pretrain.objective=hat")  # with a helper
    setting = Setting("configs/folder.yaml", "smoke", options)
    page = tmp_path / "page.md"
    return Order(setting=setting, seeds=(0,), output=page, work=tmp_path / "work", data=data)


def test_every_set_meets_far_near_and_unseen_kinds_but_never_itself(order, monkeypatch):
    met = {}

    def measured(config, far):
        met[config.data.id.rsplit("/", 2)[1]] = config, far
        raise UserError("stop")

    monkeypatch.setattr(own_images, "_measured", measured)
    small = dataclasses.replace(order, setting=dataclasses.replace(order.setting, scale="small"))
    for name in ("apples", "pears"):
        config = own_images._config(small, name, 3)
        with pytest.raises(UserError):
            measured(config, own_images._names(order.data, name))
    config, far = met["apples"]
    assert far == ["places"]
    assert met["pears"][1] == ["apples", "places"]
    assert "photo=bundled:photo-flower" in config.data.ood_test
    assert config.data.ood_test[-1].startswith("places=folder:")
    assert config.data.near_test[0].startswith("near=folder:")
    assert (config.run.seed, config.run.budget) == (3, "30m")
    assert own_images._config(order, "apples", 0).run.budget == ""


def test_plain_takes_its_steps_from_what_the_backbone_gets():
    planned = ["pretrain.helper_min_steps=500", "pretrain.min_steps=1826"]  # as a budget plans
    for objective, steps in (("hat", 1500), ("adversarial", 1826), ("standard", 1826)):
        config = load("configs/folder.yaml", [*planned, f"pretrain.objective={objective}"])
        assert own_images._plain_steps(config) == steps


def test_rows_of_other_images_are_refused_and_a_new_set_adds_a_row(order, monkeypatch):
    measured = []
    monkeypatch.setattr(own_images, "page", lambda runs: ", ".join(runs))
    monkeypatch.setattr(own_images, "_measured", lambda config, far: measured.append(far) or {})
    reproduce_own_images(order)
    for place, part in enumerate(("id/red", "id/green")):
        pictures(order.data / "plums" / part, 12, seed=place)
    reproduce_own_images(order)
    assert len(measured) == 3
    moved = order.data.rename(order.data.with_name("moved"))
    reproduce_own_images(dataclasses.replace(order, data=moved))
    assert len(measured) == 3
    (moved / "far" / "places" / "0.png").unlink()
    with pytest.raises(UserError, match=r"its row folder-smoke-\w+/apples/0 is of other images"):
        reproduce_own_images(dataclasses.replace(order, data=moved))


def test_what_is_missing_is_named(order, tmp_path):
    with pytest.raises(UserError, match=r"--data: name a folder with NAME/id"):
        reproduce_own_images(dataclasses.replace(order, data=None))
    with pytest.raises(UserError, match=r"no ID set in it; expected class folders in .*NAME"):
        reproduce_own_images(dataclasses.replace(order, data=tmp_path / "work"))


def test_the_page_has_targets_and_means_over_seeds():
    facts = Provenance(
        commit="c", versions={}, hardware="h", seed=0, config_sha256="s", seconds=1.0, date="d"
    )
    row = OwnRow(
        config="configs/folder.yaml",
        scale="small",
        overrides=("run.budget=10m",),
        name="apples",
        classes=2,
        images=90,
        image_size=32,
        network="width 16, stem 2",
        steps=(100, 200, 300),
        budget="10m",
        seconds=570.0,
        accuracy={"helper": 0.95, "plain": 0.97, "robust": 0.9},
        far=MEANS,
        unseen=MEANS,
        near={},
        sets={"places": MEANS},
        tier="paper",
        epsilon=4 / 255,
        judged=50,
        verdict="robustness numbers can be trusted",
        provenance=facts,
    )
    other = dataclasses.replace(row, far={**MEANS, "both": 0.7}, tier="smoke", steps=(1, 2, 3))
    page = own_images_page([row, other])
    (line,) = [line for line in page.splitlines() if line.startswith("| apples")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:7] == ["95.0 [95.0, 95.0] / 97.0 [97.0, 97.0] / 90.0 [90.0, 90.0]", "2"] + [
        "90.0 [90.0, 90.0]",
        "80.0 [70.0, 90.0]",
    ]
    assert cells[9:11] == ["", ""]
    assert cells[1].endswith("100/200/300, 1/2/3")
    assert cells[11] == "paper, 50 ID images; smoke, 50 ID images"
    assert "| *target* | " in page
    assert "* apples: places 90.0 / 90.0" in page
    assert "own_images --data DIR --scale small" in page
    newer = own_images_page([dataclasses.replace(row, plain_steps=300)])
    assert "stem 2, 100/200/300 (plain 300) |" in newer
    without = dataclasses.replace(row, accuracy={"plain": 0.97, "robust": 0.9})
    assert "|  / 97.0 / 90.0 |" in own_images_page([without]), "trained without a helper"


@pytest.mark.slow
def test_rows_are_measured_once_and_written(order):
    only = dataclasses.replace(order)
    reproduce_own_images(only)
    found = json.loads(order.output.with_suffix(".json").read_text())
    assert {key.split("/", 1)[1] for key in found} == {"apples/0", "pears/0"}
    row = next(iter(found.values()))
    assert set(row["accuracy"]) == {"helper", "plain", "robust"}
    assert (row["classes"], row["plain_steps"]) == (2, 1)
    assert set(row["sets"]) >= {"places", "near", "photo"}
    before = order.output.with_suffix(".json").read_bytes()
    reproduce_own_images(order)
    assert order.output.with_suffix(".json").read_bytes() == before

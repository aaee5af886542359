"""Judging from Python: any detector, any images, one typed report."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from toys import Brightness, grey

import atd
from atd.errors import UserError
from atd.evaluation.results import read_results

LIGHT = {"tier": "smoke", "steps": 2, "epsilon": "4/255"}


class Own(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))


@pytest.fixture(scope="module")
def dark() -> Tensor:
    return grey("dark", 60, 100, 30, seed=2).pixels


@pytest.fixture(scope="module")
def bright() -> Tensor:
    return grey("bright", 90, 130, 25, seed=3).pixels


@pytest.fixture(scope="module")
def report(dark, bright):
    held = grey("held", 60, 100, 40, seed=1).pixels
    return atd.evaluate(Own(), id_test=dark, ood={"bright": bright}, id_val=held, **LIGHT)


def test_ones_own_module_on_ones_own_tensors(report) -> None:
    assert 0 <= report.mean["both"]["auroc"] <= report.mean["clean"]["auroc"] <= 1
    assert report.datasets["bright"]["both"]["auroc"] == report.mean["both"]["auroc"]
    assert report.verdict == report.results.verdict
    assert report.scores["bright"].attacked.shape == (25,)
    assert repr(report.scores["bright"]) == "ScoredSet(bright: 25 images, OOD, attacked downwards)"
    assert report.checks["scores_finite"].passed
    assert report.results.detector.kind == "external"
    assert not report.left_out
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.evaluation = None


def test_a_report_takes_no_file_s_place(report, tmp_path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserError, match="taken: a file; name a folder"):
        report.save(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_the_report_is_saved_and_shown(report, tmp_path) -> None:
    report.save(tmp_path / "report")
    stored = json.loads((tmp_path / "report" / "results.json").read_text())
    assert stored == report.results.to_json()
    shown = report._repr_html_()
    assert "<table>" in shown
    assert "<img" not in shown
    assert report.verdict in repr(report)


@pytest.mark.parametrize("form", ["float", "array", "data set", "list"])
def test_every_form_of_images_gives_the_same(report, dark, bright, form) -> None:
    forms = {
        "float": lambda images: images.float() / 255,
        "array": lambda images: np.moveaxis(images.numpy(), 1, -1),
        "data set": lambda images: TensorDataset(images, torch.zeros(len(images)).long()),
        "list": list,
    }
    make = forms[form]
    held = make(grey("held", 60, 100, 40, seed=1).pixels)
    own = atd.External(Own(), image_size=8, channels=3)
    found = atd.evaluate(
        own, id_test=make(dark), ood={"bright": make(bright)}, id_val=held, **LIGHT
    )
    assert found.mean == report.mean


def test_sources_are_opened_at_the_detectors_size(tiny_run) -> None:
    folder = tiny_run.folder / "detector"
    found = atd.evaluate(
        folder,
        id_test="bundled:digits",
        ood={"letters": "bundled:lowercase"},
        limit=8,
        **LIGHT,
    )
    assert (found.results.id.images, found.results.detector.kind) == (8, "atd")
    assert found.threshold.value == atd.load(folder).threshold
    assert "held-out ID images" in found.left_out[0]


def test_what_a_folder_holds_besides_is_named_in_the_report(dark, bright, tmp_path) -> None:
    for index, pixels in enumerate(bright[:3]):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    (tmp_path / "scan.heic2").write_bytes(b"")
    found = atd.evaluate(Own(), id_test=dark, ood={"far": f"folder:{tmp_path}"}, **LIGHT)
    assert "files of far: 1 .heic2 files (scan.heic2)" in found.left_out


def test_without_held_out_images_the_threshold_says_where_it_comes_from(dark, bright) -> None:
    found = atd.evaluate(Own(), id_test=dark, ood={"far": bright}, near={"close": dark}, **LIGHT)
    assert found.left_out == (
        "held-out ID images: not given; the threshold is that of the ID test images themselves",
    )
    assert found.mean_near["clean"]["auroc"] == pytest.approx(0.5)
    assert found.datasets["close"].role == "near"


def test_baselines_are_detectors_with_a_verdict(dark, bright) -> None:
    found = atd.evaluate(
        Own(), id_test=dark, ood={"far": bright}, baselines={"plain": Brightness()}, **LIGHT
    )
    other = found.baselines["plain"]
    assert other.mean["clean"]["auroc"] == found.mean["clean"]["auroc"]
    assert len(other.datasets["far"].both["auroc_ci"]) == 2
    assert other.verdict


def test_mistakes_are_one_line(dark, bright) -> None:
    some = {"id_test": dark, "ood": {"far": bright}}
    with pytest.raises(UserError, match="tier"):
        atd.evaluate(Own(), **some, tier="strongest")
    with pytest.raises(UserError, match="epsilon"):
        atd.evaluate(Own(), **some, epsilon="8/0")
    with pytest.raises(UserError, match="wanted is"):
        atd.evaluate(atd.External(Own(), image_size=9, channels=3), **some)
    with pytest.raises(UserError, match="ood: name at least one set"):
        atd.evaluate(Own(), id_test=dark, ood={})
    with pytest.raises(UserError, match="OOD test set id_test: .*rename it"):
        atd.evaluate(Own(), id_test=dark, ood={"id_test": bright})
    with pytest.raises(UserError, match="a module"):
        atd.evaluate(3, **some)


def test_what_no_attack_can_take_away(dark, bright, tmp_path) -> None:
    options = {"sigma": 0.5, "draws": 60, "radii": [0.2, 5], "confidence": 0.9}
    report = atd.evaluate(Own(), id_test=dark, ood={"bright": bright}, certify=options, **LIGHT)
    found = report.certificate
    assert (found.sigma, found.draws, found.confidence) == (0.5, 60, 0.9)
    assert [point.radius for point in found.mean] == [0.0, 0.2, 5.0]
    assert found.mean[-1].both == 0.0 < found.smoothed
    assert found.datasets["bright"] == found.mean
    report.save(tmp_path)
    assert read_results(tmp_path / "results.json") == report.results
    assert (tmp_path / "certificate.png").exists()
    with pytest.raises(UserError, match=r"evaluate\.certify_sigma=0 is out of range"):
        atd.evaluate(Own(), id_test=dark, ood={"bright": bright}, certify={"sigma": 0})
    with pytest.raises(UserError, match=r"certify_sgma: unknown key; did you mean .*certify_sigma"):
        atd.evaluate(Own(), id_test=dark, ood={"bright": bright}, certify={"sgma": 1})


def test_wrappers_are_taken_off(dark, bright, report) -> None:
    detector = Brightness()
    detector.set_threshold(2.5, "by hand")
    sets = {"id_test": dark, "ood": {"bright": bright}}
    wrapped = torch.compile(nn.DataParallel(detector))
    found = atd.evaluate(wrapped, **sets, **LIGHT)
    assert found.threshold.value == 2.5
    assert found.results.detector.kind == "toy"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ood": torch.zeros(3, 3, 8, 8)}, "^ood: give a dict"),
        ({"ood": [torch.zeros(3, 3, 8, 8)]}, "^ood: give a dict"),
        ({"baselines": ["msp"]}, "^baselines: give a dict"),
        ({"baselines": {"b": "nowhere"}}, "nowhere"),
        ({"norm": "l2", "epsilon": 1001}, r"evaluate\.epsilon=1001"),
        ({"epsilon": 2}, r"evaluate\.epsilon=2.* between 0 and 1 "),
    ],
)
def test_wrong_arguments_are_told_in_a_line(dark, bright, options, words) -> None:
    given = {"id_test": dark, "ood": {"bright": bright}, "tier": "smoke", "steps": 2}
    with pytest.raises(UserError, match=words):
        atd.evaluate(Own(), **(given | options))


def test_a_baseline_may_be_any_module(dark, bright) -> None:
    found = atd.evaluate(
        Own(), id_test=dark, ood={"bright": bright}, baselines={"same": Own()}, **LIGHT
    )
    assert found.baselines["same"].mean == found.mean

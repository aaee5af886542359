"""Detectors that are fitted, not trained, from the command line to every other command."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image

import atd
from atd.commands import evaluate, export, score, train
from atd.config import load

pytestmark = pytest.mark.usefixtures("unrendered")


def call(command, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["atd", *map(str, words)])
    command.main()


@pytest.fixture
def run(tiny_yaml, tiny_run, monkeypatch, tmp_path):
    """`train.py` on the tiny run's backbone: the folder that it made."""

    def make(*overrides, folder="run"):
        common = [f"run.dir={tmp_path / folder}", "evaluate.limit=4", "evaluate.baselines="]
        weights = f"backbone.weights={tiny_run.folder / 'detector'}"
        call(train, monkeypatch, "--config", tiny_yaml, *common, weights, *overrides)
        return tmp_path / folder

    return make


def test_energy_on_the_backbone_of_a_detector_goes_everywhere(
    run, tiny_run, monkeypatch, tmp_path, capsys
):
    words = ("detector.kind=energy", "detector.temperature=2", "run.name=energy")
    folder = run(*words)
    assert load(folder / "config.yaml").detector == {"kind": "energy", "temperature": "2.0"}
    assert "Energy (kind `energy`; Liu" in (folder / "detector" / "README.md").read_text()
    results = json.loads((folder / "report" / "results.json").read_text())
    assert (results["detector"]["kind"], results["detector"]["name"]) == ("energy", "energy")
    detector = atd.load(folder / "detector")
    assert (detector.kind, detector.options.temperature) == ("energy", 2.0)
    assert detector.threshold == results["threshold"]["value"]
    theirs = atd.load(tiny_run.folder / "detector").backbone.state_dict()
    ours = detector.backbone.state_dict()
    assert all(bool((ours[key] == value).all()) for key, value in theirs.items())
    assert not any("epoch" in line for line in _stages(folder))

    capsys.readouterr()
    run(*words)
    assert "is finished" in capsys.readouterr().out

    report = tmp_path / "again"
    call(evaluate, monkeypatch, folder / "detector", "--output", report, "evaluate.limit=4")
    again = json.loads((report / "results.json").read_text())
    assert again["mean"] == results["mean"]
    call(export, monkeypatch, folder / "detector", "--formats", "pt2", "--output", tmp_path / "out")
    assert (tmp_path / "out" / "detector.pt2").is_file()
    picture = tmp_path / "picture.png"
    Image.new("L", (8, 8), 128).save(picture)
    capsys.readouterr()
    call(score, monkeypatch, folder / "detector", picture, "--format", "jsonl")
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(
        float(detector.score(str(picture))[0])
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("gaia_z",),
        ("gaia_a", "layers=all"),
        ("splitting_integrating", "variant=paper"),
        ("confounding_gradients", "epochs=3", "protocol=leave_one_out"),
    ],
    ids=lambda words: words[0],
)
def test_kinds_made_of_gradients_are_fitted_attacked_and_scored(
    run, monkeypatch, tmp_path, capsys, words
):
    kind, *options = words
    folder = run(f"detector.kind={kind}", *(f"detector.{option}" for option in options))
    results = json.loads((folder / "report" / "results.json").read_text())
    assert results["detector"]["kind"] == kind
    assert results["checks"]
    assert all(0 <= results["mean"][side]["auroc"] <= 1 for side in ("clean", "in", "out", "both"))
    detector = atd.load(folder / "detector")
    if kind == "confounding_gradients":
        assert "(fitted on the other anomalies)" in results["detector"]["name"]
    picture = tmp_path / "picture.png"
    Image.new("L", (8, 8), 128).save(picture)
    capsys.readouterr()
    call(score, monkeypatch, folder / "detector", picture, "--format", "jsonl")
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(
        float(detector.score(str(picture))[0]), rel=1e-4
    )
    with pytest.raises(SystemExit) as caught:
        call(
            export, monkeypatch, folder / "detector", "--formats", "pt2", "--output", tmp_path / "x"
        )
    assert caught.value.code == 2
    assert "made of gradients" in capsys.readouterr().err


def _stages(folder):
    file = folder / "stats.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def test_a_kind_that_is_fitted_after_pre_training_of_its_own(
    tiny_yaml, tiny_run, monkeypatch, tmp_path
):
    words = [f"run.dir={tmp_path / 'run'}", "evaluate.limit=4", "evaluate.baselines="]
    kind = ["detector.kind=knn", "detector.k=3", "pretrain.objective=standard"]
    call(train, monkeypatch, "--config", tiny_yaml, *words, *kind)
    detector = atd.load(tmp_path / "run" / "detector")
    assert detector.bank.shape == (72, 32)
    assert {json.loads(line)["stage"] for line in _stages(tmp_path / "run")} == {"pretrain"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["detector.kind=knn"], "detector.k=50"),
        (["detector.kind=vim", "detector.dimension=32"], "32 dimensions; choose at most 31"),
        (["detector.kind=energy", "detector.k=3"], "k is one of kind knn"),
        (["detector.kind=openmax", "data.id_limit=12"], "at least 3 are needed"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(run, capsys, tmp_path, overrides, words):
    few = ["data.id_limit=40"] if "detector.kind=knn" in overrides else []
    with pytest.raises(SystemExit) as caught:
        run(*overrides, *few)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert words in lines[-1]
    assert not (tmp_path / "run" / "detector").exists()


def test_outliers_that_nothing_learns_from_are_not_even_opened(run, tmp_path, capsys):
    words = ("detector.kind=msp", "data.outliers=folder:nowhere")
    run("--dry-run", *words)
    folder = run(*words)
    told = "outliers: none, for nothing here learns from them"
    assert capsys.readouterr().out.count(told) == 3  # planned, found by the rehearsal and the run
    assert "outliers" not in json.loads((folder / "state" / "data.json").read_text())
    for needy in ("evaluate.baselines=[confounding_gradients]", "detector.kind=atd"):
        with pytest.raises(SystemExit):
            run(*words, needy, folder="other")
        assert "nowhere" in capsys.readouterr().err


def test_a_dry_run_tells_what_would_be_done(run, capsys, tmp_path):
    run("--dry-run", "detector.kind=openmax", "detector.tail=9")
    out = capsys.readouterr().out
    assert "  tail: 9\n  alpha: 10\n" in out
    line = "# fit: openmax (Bendale & Boult, 2016, arXiv:1511.06233), tail 9, alpha 10; fitted to "
    assert line + "ID images and their labels" in out
    assert "# atd:" not in out
    assert not (tmp_path / "run").exists()


def test_a_flow_is_fitted_judged_and_scored_with(run, monkeypatch, tmp_path, capsys):
    small = ("points=24", "blocks=2", "hidden=8", "epochs=2", "head=histogram")
    folder = run("detector.kind=daain", *(f"detector.{option}" for option in small))
    results = json.loads((folder / "report" / "results.json").read_text())
    assert results["detector"]["kind"] == "daain"
    assert 0 < len(atd.load(folder / "detector").places) <= 40
    picture = tmp_path / "picture.png"
    Image.new("L", (8, 8), 99).save(picture)
    capsys.readouterr()
    call(score, monkeypatch, folder / "detector", picture)
    assert str(picture) in capsys.readouterr().out

"""Whole runs on bundled images: what they leave behind, repeat, and refuse."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from atd.config import load
from atd.data.splits import load_splits
from atd.detectors.base import Detector
from atd.detectors.calibration import CalibrationSample
from atd.errors import UserError
from atd.pipeline import STAGES

pytestmark = pytest.mark.usefixtures("unrendered")


def explode(options, rate):
    """Sets a rate that no config may have."""
    object.__setattr__(options, rate, 1e38)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_folder_holds_what_the_contract_names(tiny_run):
    folder = tiny_run.folder
    assert {entry.name for entry in folder.iterdir()} == {
        "config.yaml",
        "stats.jsonl",
        "tensorboard",
        "state",
        "detector",
        "report",
    }
    detector = {entry.name for entry in (folder / "detector").iterdir()}
    assert detector == {
        "config.json",
        "model.safetensors",
        "calibration.safetensors",
        "README.md",
    }
    report = {entry.name for entry in (folder / "report").iterdir()}
    assert {"results.json", "report.md", "scores.npz"} < report
    assert any(name.endswith(".png") for name in report)
    assert any((folder / "tensorboard").iterdir())
    assert load(folder / "config.yaml") == tiny_run.config


def test_results_hold_what_the_contract_names(tiny_run):
    results = json.loads((tiny_run.folder / "report" / "results.json").read_text())
    assert results["schema"] == 1
    assert {"detector", "attack", "id", "mean", "threshold", "checks", "verdict"} < results.keys()
    conditions = {"clean", "in", "out", "both"}
    metrics = {"auroc", "fpr95_id", "fpr95_ood", "aupr_in", "aupr_out", "detection_error"}
    assert results["datasets"].keys() == {"lowercase"}
    lowercase = results["datasets"]["lowercase"]
    assert lowercase.keys() == {"images", "role", *conditions}
    for name in conditions:
        assert lowercase[name].keys() == {*metrics, "auroc_ci"}
        assert results["mean"][name].keys() == metrics
    assert lowercase["both"]["auroc"] <= lowercase["in"]["auroc"] <= lowercase["clean"]["auroc"]
    assert results["provenance"]["seed"] == 0
    assert len(results["provenance"]["config_sha256"]) == 64
    assert results["attack"]["epsilon"] == 0.05
    assert results["baselines"].keys() == {"msp"}


def test_the_saved_detector_is_the_evaluated_one(tiny_run):
    detector = Detector.from_pretrained(tiny_run.folder / "detector")
    assert detector.threshold == tiny_run.results["threshold"]["value"]
    assert detector.config.training == dataclasses.asdict(tiny_run.config)
    assert len(detector.config.classes) == 10
    assert "lowercase" in (tiny_run.folder / "detector" / "README.md").read_text()


def test_features_of_id_images_are_standardised(tiny_run):
    detector = Detector.from_pretrained(tiny_run.folder / "detector")
    images = load_splits(tiny_run.config).id_train
    features = detector.features(images.fetch(range(len(images))).float() / 255)
    torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]), atol=1e-4, rtol=0)
    # A feature that hardly varies stays small instead of being blown up.
    assert features.std(0).max() == pytest.approx(1, abs=1e-4)


def test_stats_tell_every_stage_once(tiny_run):
    lines = (tiny_run.folder / "stats.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert all({"stage", "step", "epoch", "images", "seconds"} <= entry.keys() for entry in entries)
    assert list(dict.fromkeys(entry["stage"] for entry in entries)) == ["helper", "pretrain", "atd"]
    pace = {"images_per_second", "seconds_data", "seconds_communication"}
    assert all((pace <= entry.keys()) == ("loss" in entry) for entry in entries)
    logged = [(entry["stage"], entry["step"], "loss" in entry) for entry in entries]
    assert len(logged) == len(set(logged))
    last = [entry for entry in entries if "val_auroc_attacked" in entry][-1]
    assert last["epoch"] == 2


def test_each_stage_takes_what_those_before_it_have_made():
    made = set()
    for stage in STAGES:
        assert set(stage.needs) <= made
        made.add(stage.makes)
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_a_run_can_end_early_and_go_on_later(start, tmp_path):
    run = start("atd.epochs=1").until("pretrain")
    assert run.backbone is not None
    assert run.detector is None
    assert not (tmp_path / "run" / "detector").exists()


def test_every_process_keeps_a_log_on_request(start, tmp_path):
    run = start("run.rank_logs=true", "pretrain.helper_epochs=2")
    explode(run.config.pretrain, "lr")
    with pytest.raises(UserError, match="not finite"):
        run.execute()
    text = (tmp_path / "run" / "logs" / "rank-0.log").read_text()
    for words in ("start: rank 0 of 1", "in-distribution: digits", "helper at step 0 of 4"):
        assert words in text
    assert "helper step 1: loss " in text
    assert "seconds_communication" in text
    assert "UserError: helper: the loss was not finite" in text.splitlines()[-1]


def test_images_without_labels_are_enough(start, flat, capsys):
    run = start(f"data.id=folder:{flat}", "pretrain.objective=trades", "atd.epochs=1")
    detector, backbone, _ = run.train()
    assert detector.config.classes[0] == "0 degrees"
    assert backbone.classes == 4
    assert "no labels" in capsys.readouterr().out


def test_pixels_need_no_backbone(start, tmp_path):
    results = start("atd.features=pixels", "atd.epochs=1", "evaluate.limit=10").execute()
    detector = Detector.from_pretrained(tmp_path / "run" / "detector")
    assert detector.backbone is None
    assert results.baselines == {}
    states = (tmp_path / "run" / "state").glob("*.safetensors")
    assert {file.name.partition(".")[0] for file in states} == {"atd"}


def test_the_backbone_of_a_detector_folder_is_taken_as_it_was_built(start, tiny_run):
    folder = tiny_run.folder / "detector"
    source = Detector.from_pretrained(folder).backbone
    other = ["backbone.width=8", "backbone.activation=relu", "backbone.features=multi"]
    run = start(f"backbone.weights={folder}", *other).until("weights")
    assert run.backbone.config.width == source.config.width == 4
    assert run.backbone.config.activation == source.config.activation == "silu"
    assert run.backbone.feature_dim == 2 * (4 + 8 + 16 + 32)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(run.backbone.eval()(images), source(images))


def test_one_s_own_network_must_have_the_classes_that_it_is_trained_on(start):
    run = start("backbone.architecture=import:nets:small", "data.channels=3")
    with pytest.raises(UserError, match="gives 5 logits, but pre-training needs 10"):
        run.until("pretrain")


def test_given_weights_replace_pretraining(start, tiny_run, tmp_path):
    weights = tiny_run.folder / "detector" / "model.safetensors"
    detector, backbone, _ = start(f"backbone.weights={weights}", "atd.epochs=1").train()
    source = Detector.from_pretrained(tiny_run.folder / "detector")
    assert same(source.backbone, backbone)
    assert same(source.backbone, detector.backbone)
    assert torch.equal(source.feature_mean, detector.feature_mean)
    assert not (tmp_path / "run" / "state" / "pretrain.safetensors").exists()


def test_weights_without_a_head_leave_the_options_as_asked_for(start, tiny_run, tmp_path):
    detector = Detector.from_pretrained(tiny_run.folder / "detector")
    state = detector.backbone.state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith("head.")}
    torch.save(headless, tmp_path / "headless.pt")
    run = start(f"backbone.weights={tmp_path / 'headless.pt'}").until("weights")
    assert run.backbone.lacks_head
    assert run.config.evaluate.baselines == ["msp"]


def test_a_head_of_zeros_is_none(start, tiny_run, tmp_path):
    detector = Detector.from_pretrained(tiny_run.folder / "detector")
    with torch.no_grad():
        for parameter in detector.backbone.head.parameters():
            parameter.zero_()
    detector.save_pretrained(tmp_path / "headless")
    weights = f"backbone.weights={tmp_path / 'headless'}"
    with pytest.raises(UserError, match=r"logits of this network are all zero.*kind=energy"):
        start(weights, "detector.kind=energy").until("weights")


def test_finetuning_leaves_the_baselines_their_backbone(start, tiny_run):
    weights = tiny_run.folder / "detector" / "model.safetensors"
    options = ("atd.finetune=true", "atd.epochs=1", "backbone.standardise=false")
    detector, backbone, _ = start(f"backbone.weights={weights}", *options).train()
    assert not same(detector.backbone, backbone)
    assert same(backbone, Detector.from_pretrained(tiny_run.folder / "detector").backbone)
    assert torch.equal(detector.feature_std, torch.ones_like(detector.feature_std))


@pytest.mark.parametrize(("group", "rate"), [("pretrain", "lr"), ("atd", "lr_discriminator")])
def test_a_training_that_explodes_is_a_users_error(start, tiny_run, group, rate):
    weights = tiny_run.folder / "detector" / "model.safetensors"
    run = start(*[f"backbone.weights={weights}"] * (group == "atd"))
    explode(getattr(run.config, group), rate)
    with pytest.raises(UserError, match="not finite") as error:
        run.train()
    assert "\n" not in str(error.value)


def test_few_images_get_the_steps_asked_for(start, capsys):
    few = ("pretrain.helper_min_steps=7", "pretrain.helper_epochs=2", "atd.min_steps=3")
    run = start(*few).until("atd")
    said = capsys.readouterr().out
    # 72 images in batches of 32 are 2 steps an epoch, and 20 steps the least between validations
    assert "helper: 20 steps instead of 4, for the images are few" in said
    assert "pretrain:" not in said.replace("pretrain epoch", "")
    entries = [json.loads(line) for line in (run.folder.path / "stats.jsonl").open()]
    steps = {stage: [e for e in entries if e["stage"] == stage] for stage in ("helper", "atd")}
    assert max(entry["step"] for entry in steps["helper"]) == 20
    assert sum("val_accuracy" in entry for entry in steps["helper"]) == 1
    assert max(entry["step"] for entry in steps["atd"]) == 20


def decided(folder):
    """What a person has decided: threshold, its words, calibration, its sample."""
    found = Detector.from_pretrained(folder / "detector")
    kept = (found.threshold, found.config.threshold_note, found.config.calibration)
    return *kept, found.calibration.scores.tolist()


@pytest.fixture
def calibrated(copied):
    folder = copied / "detector"
    detector = Detector.from_pretrained(folder)
    detector.set_threshold(detector.threshold + 0.25, "by hand")
    detector.config = dataclasses.replace(detector.config, calibration={"images": 3})
    detector.calibration = CalibrationSample(torch.tensor([1.0, 2.0, 3.0]))
    detector.save_pretrained(folder)
    return copied


def test_a_threshold_of_one_s_own_outlives_another_evaluation(start, calibrated):
    before = decided(calibrated)
    results = start("evaluate.limit=5", folder=calibrated).execute()
    assert decided(calibrated) == before
    assert (results.threshold.value, results.threshold.note) == before[:2]


def test_a_stopped_evaluation_leaves_the_detector_that_was_there(start, calibrated, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    files = {file: file.read_bytes() for file in (calibrated / "detector").iterdir()}
    monkeypatch.setattr("atd.pipeline.evaluate_detectors", stop)
    with pytest.raises(KeyboardInterrupt):
        start("evaluate.limit=5", folder=calibrated).execute()
    assert {file: file.read_bytes() for file in (calibrated / "detector").iterdir()} == files


def test_the_record_tells_of_the_evaluation_that_was_made(start, copied, monkeypatch):
    """Under a budget it is settled after the training, when the time that is left is known."""

    def settle(run, *_):
        evaluate = dataclasses.replace(run.config.evaluate, limit=5)
        run.config = dataclasses.replace(run.config, evaluate=evaluate)

    monkeypatch.setattr("atd.pipeline._settle_evaluation", settle)
    results = start(folder=copied).execute()
    record = Detector.from_pretrained(copied / "detector").config.training
    assert results.id.images == record["evaluate"]["limit"] == 5


def test_other_weights_get_a_threshold_of_their_own(start, calibrated):
    before = decided(calibrated)
    start("atd.epochs=4", folder=calibrated).execute()
    after = decided(calibrated)
    assert after[0] != before[0]
    assert after[1] == "accepts 95 % of clean held-out ID images"
    assert after[2] == {}

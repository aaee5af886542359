"""Runs with each pre-training objective, from the bundled digits to a saved detector."""

from __future__ import annotations

import json

import pytest
import torch

from atd.backbones.denoising import DenoisingBackbone
from atd.config import load
from atd.data.splits import load_splits
from atd.detectors.base import Detector
from atd.detectors.outlier_class import outlier_log_odds
from atd.errors import UserError
from atd.pipeline import Run, stages_of
from atd.training.fits import untrained_backbone
from atd.training.ingredients import Ingredients
from atd.training.processes import Processes
from atd.training.robust_pretraining import RobustPretraining
from atd.training.tasks import robust_pretraining


@pytest.fixture
def options(tiny_yaml, tmp_path):
    def make(objective, *more):
        chosen = [f"pretrain.objective={objective}", f"run.dir={tmp_path / objective}"]
        return load(tiny_yaml, [*chosen, "atd.epochs=1", *more])

    return make


@pytest.mark.parametrize("objective", ["oe", "aoe", "aloe", "halo", "atom", "osad"])
def test_a_run_ends_with_a_detector(options, objective):
    config = options(objective)
    stages = [stage.name for stage in stages_of(config)]
    assert ("helper" in stages) == (objective == "halo")
    run = Run(config, Processes("cpu"))
    detector, backbone, splits = run.train()
    run.save_detector()
    loaded = Detector.from_pretrained(config.run.folder / "detector")
    images = splits.id_test.fetch(range(4))
    assert torch.equal(loaded.score(images), detector.score(images))
    assert backbone.classes == 10 + (objective == "atom")
    assert isinstance(loaded.backbone, DenoisingBackbone) == (objective == "osad")
    if config.run.folder.name in ("atom", "osad"):
        require_reuse(options("hat", f"backbone.weights={run.folder.detector}"), backbone)
    if objective == "atom":
        again = [f"backbone.weights={run.folder.detector}", "detector.kind=outlier_class"]
        config = options("hat", *again, f"run.dir={config.run.folder}-kind")
        kind = Run(config, Processes("cpu")).train()[0]
        odds = outlier_log_odds(backbone.eval()(images.float() / 255)).detach()
        torch.testing.assert_close(kind.score(images), odds)


def test_a_backbone_without_an_outlier_class_is_refused_before_it_is_trained(options, monkeypatch):
    monkeypatch.setattr(RobustPretraining, "step", None)
    with pytest.raises(UserError, match="train it with pretrain.objective=atom"):
        Run(options("oe", "detector.kind=outlier_class"), Processes("cpu")).train()


@pytest.mark.parametrize("features", ["backbone", "pixels"])
def test_opengan_is_selected_on_clean_outliers(options, features):
    leak = ["atd.batch_statistics=true"] if features == "pixels" else []
    config = options("standard", "recipe=opengan", f"atd.features={features}", *leak)
    run = Run(config, Processes("cpu"))
    detector, _, splits = run.train()
    run.save_detector()
    rows = [json.loads(line) for line in (run.folder.path / "stats.jsonl").open()]
    (chosen,) = [row for row in rows if "selection" in row and row["stage"] == "atd"]
    assert chosen["selection"] == chosen["val_auroc"]
    loaded = Detector.from_pretrained(run.folder.detector)
    assert loaded.options.batch_statistics == bool(leak)
    images = splits.id_test.fetch(range(4))
    assert torch.equal(loaded.score(images), detector.score(images))


def require_reuse(config, trained):
    """A run that is given the detector folder of another takes its backbone as it is."""
    second = Run(config, Processes("cpu"))
    second.train()
    second.save_detector()
    loaded = Detector.from_pretrained(second.folder.detector).backbone.state_dict()
    assert loaded.keys() == trained.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in trained.state_dict().items())


def test_outliers_that_are_missing_are_asked_for(options):
    config = options("aloe")
    given = Ingredients(config, load_splits(config, outliers=False), Processes("cpu"))
    with pytest.raises(UserError) as error:
        robust_pretraining(given, "pretrain", untrained_backbone(given))
    assert str(error.value) == (
        "pretrain.objective=aloe: it learns from outliers, and there are none; "
        "give them in data.outliers"
    )


def test_few_outliers_make_smaller_batches(options):
    config = options("oe", "data.outlier_limit=12", "pretrain.batch_size=32")
    given = Ingredients(config, load_splits(config), Processes("cpu"))
    task = robust_pretraining(given, "pretrain", untrained_backbone(given))
    (images, _), (outliers, _) = next(task.batches(0))
    assert len(images) == len(outliers) == task.batch_size < 12

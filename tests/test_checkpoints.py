"""The detectors that are shipped with the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import atd
from atd.config import DataConfig
from atd.data.bundled import bundled_set
from atd.evaluation.results import Results, read_results
from atd.reporting.card import model_card

ROOT = Path(__file__).parents[1]
CIFAR10 = ROOT / "checkpoints" / "cifar10"
SHIPPED = [CIFAR10, ROOT / "checkpoints" / "cifar10_small"]
every_one = pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
SIDES = {"clean": (0, 0), "in": (1, 0), "out": (0, 1), "both": (1, 1)}
"""Whether ID and OOD images are attacked."""


@every_one
def test_it_loads_and_flags_noise(folder: Path):
    detector = atd.load(folder / "detector")
    assert detector.kind == "atd"
    assert detector.threshold is not None
    noise = bundled_set("noise", "all", DataConfig(image_size=32, channels=3))
    flagged = detector.predict(noise.fetch(range(0, len(noise), 20)))
    assert flagged.double().mean() > 0.6


def test_the_gpu_detectors_threshold_accepts_what_it_says():
    detector = atd.load(CIFAR10 / "detector")
    assert detector.calibration is not None
    scores = detector.calibration.scores
    assert len(scores) == 5000
    assert abs((scores <= detector.threshold).double().mean() - 0.95) < 0.001


def judged(folder: Path) -> Results:
    return read_results(folder / "report" / "results.json")


@every_one
def test_its_report_is_what_its_scores_say(folder: Path):
    scores = np.load(folder / "report" / "scores.npz")
    results = judged(folder)
    assert results.datasets
    for name, found in results.datasets.items():
        for condition, attacked in SIDES.items():
            inside, outside = (
                scores[f"{side}/{'attacked' if hit else 'clean'}"]
                for side, hit in zip(("id_test", name), attacked, strict=True)
            )
            labels = np.repeat([0, 1], [len(inside), len(outside)])
            value = roc_auc_score(labels, np.concatenate([inside, outside]))
            assert found[condition]["auroc"] == pytest.approx(value, abs=1e-12)


@every_one
def test_its_card_tells_what_its_report_found(folder: Path):
    results, detector = judged(folder), atd.load(folder / "detector")
    card = (folder / "detector" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(model_card(results, detector.config))


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / "data" / "cifar10" / "test").is_dir(),
    reason="CIFAR-10's images are the user's own (docs/cifar10.md) and are not here",
)
@every_one
def test_it_is_judged_again_as_its_report_says(folder: Path, tmp_path: Path):
    results = judged(folder)
    options = [
        *("run.compile=false", "evaluate.baselines=[]", "evaluate.tier=smoke"),
        *(f"evaluate.limit={results.id.images}", f"data.ood_limit={results.id.images}"),
    ]
    config = f"configs/{folder.name}.yaml"
    words = ["evaluate.py", str(folder / "detector"), "--config", config, *options]
    command = [sys.executable, *words, "--output", str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    again = read_results(tmp_path / "results.json")
    for name, found in results.datasets.items():
        clean, both = (again.datasets[name][side]["auroc"] for side in ("clean", "both"))
        assert clean == pytest.approx(found["clean"]["auroc"], abs=0.002)
        assert both > found["both"]["auroc"] - 0.01, "the short attack found more"

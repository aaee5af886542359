"""The detectors that are shipped with the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import atd
from atd.config import DataConfig
from atd.data.bundled import bundled_set
from atd.evaluation.results import Results, read_results
from atd.reporting.card import model_card

ROOT = Path(__file__).parents[1]
CIFAR10 = ROOT / "checkpoints" / "cifar10"
SIDES = {"clean": (0, 0), "in": (1, 0), "out": (0, 1), "both": (1, 1)}
"""Whether ID and OOD images are attacked."""


def test_the_cifar10_detector_loads_and_flags_noise():
    detector = atd.load(CIFAR10 / "detector")
    assert detector.kind == "atd"
    assert detector.threshold is not None
    noise = bundled_set("noise", "all", DataConfig(image_size=32, channels=3))
    flagged = detector.predict(noise.fetch(range(0, len(noise), 20)))
    assert flagged.double().mean() > 0.6


def test_its_threshold_accepts_what_it_says():
    detector = atd.load(CIFAR10 / "detector")
    scores = np.load(CIFAR10 / "scores.npz")["id_val.clean"]
    assert abs((torch.from_numpy(scores) <= detector.threshold).double().mean() - 0.95) < 0.001


def judged() -> Results:
    return read_results(CIFAR10 / "report" / "results.json")


def test_its_report_is_what_its_scores_say():
    scores = np.load(CIFAR10 / "report" / "scores.npz")
    results = judged()
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


def test_its_card_tells_what_its_report_found():
    results, detector = judged(), atd.load(CIFAR10 / "detector")
    card = (CIFAR10 / "detector" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(model_card(results, detector.config))


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / "data" / "cifar10" / "test").is_dir(),
    reason="CIFAR-10's images are the user's own (docs/cifar10.md) and are not here",
)
def test_it_is_judged_again_as_its_report_says(tmp_path: Path):
    results = judged()
    options = [
        *("run.compile=false", "evaluate.baselines=[]", "evaluate.tier=smoke"),
        *(f"evaluate.limit={results.id.images}", f"data.ood_limit={results.id.images}"),
    ]
    words = ["evaluate.py", str(CIFAR10 / "detector"), "--config", "configs/cifar10.yaml", *options]
    command = [sys.executable, *words, "--output", str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    again = read_results(tmp_path / "results.json")
    for name, found in results.datasets.items():
        clean, both = (again.datasets[name][side]["auroc"] for side in ("clean", "both"))
        assert clean == pytest.approx(found["clean"]["auroc"], abs=0.002)
        assert both > found["both"]["auroc"] - 0.01, "the short attack found more"

"""Scores that a stopped evaluation left become the AUROC that scikit-learn finds."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from atd.errors import UserError
from benchmarks import stored_scores


@pytest.fixture
def stored(tmp_path):
    random = np.random.default_rng(0)
    names = ["cats.clean", "cats.attacked", "far.clean", "far.attacked", "lynx.clean"]
    scores = {name: random.normal(len(name), 2, 40) for name in [*names, "lynx.attacked"]}
    np.savez(tmp_path / "scores.npz", **{"id_val.clean": np.zeros(3)}, **scores)
    (tmp_path / "config.yaml").write_text("evaluate: {tier: paper, epsilon: 8/255}\n")
    return scores


def run(monkeypatch, folder, *words):
    command = ["benchmark", str(folder / "scores.npz"), str(folder / "page.md"), *words]
    monkeypatch.setattr(sys, "argv", command)
    stored_scores._main()


def test_the_page_has_the_auroc_of_every_condition(monkeypatch, tmp_path, stored):
    run(monkeypatch, tmp_path, "--id", "cats", "--near", "lynx")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "PGD-100 x 1, L-inf, epsilon 8/255" in page
    for name, title in (("far", "**mean of 1 far set**"), ("lynx", "lynx (near)")):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {title} |"))
        found = [cell.split(" [")[0].strip() for cell in line.split("|")[3:7]]
        expected = [
            roc_auc_score([0] * 40 + [1] * 40, [*stored[f"cats.{a}"], *stored[f"{name}.{b}"]])
            for a in ("clean", "attacked")
            for b in ("clean", "attacked")
        ]
        clean, out, inside, both = (f"{100 * value:.1f}" for value in expected)
        assert found == [clean, inside, out, both]


def test_an_unknown_set_is_named(monkeypatch, tmp_path, stored):
    with pytest.raises(UserError, match=r"scores\.npz: has no dogs\.clean"):
        run(monkeypatch, tmp_path, "--id", "dogs")
    assert not (tmp_path / "page.md").exists()

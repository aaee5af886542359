"""The document of a run is what its command makes of the run folder."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

from atd.errors import UserError
from benchmarks import publish, readme_results


def publish_run(monkeypatch, folder, output):
    monkeypatch.setattr(sys, "argv", ["benchmark", str(folder), str(output)])
    publish._main()


def test_a_finished_run_is_published(monkeypatch, tmp_path, tiny_run):
    page = tmp_path / "tiny.md"
    publish_run(monkeypatch, tiny_run.folder, page)
    text = page.read_text(encoding="utf-8")
    both = 100 * tiny_run.results["mean"]["both"]["auroc"]
    assert f"| {both:.1f} |" in text
    assert re.search(r"\| helper \d+\.\d; pretrain .*; evaluation ", text)
    # Once more: it takes its own place.
    publish_run(monkeypatch, tiny_run.folder, page)
    assert page.read_text(encoding="utf-8") == text
    assert len(publish.published(tmp_path / "tiny.json")) == 1


def test_seeds_are_published_with_their_mean_and_spread(monkeypatch, tmp_path, tiny_run):
    page, other = tmp_path / "tiny.md", tmp_path / "other"
    publish_run(monkeypatch, tiny_run.folder, page)
    shutil.copytree(tiny_run.folder, other)
    results = json.loads((other / "report" / "results.json").read_text())
    results["provenance"]["seed"] = 7
    first = results["mean"]["clean"]["auroc"]
    results["mean"]["clean"]["auroc"] = first / 2
    (other / "report" / "results.json").write_text(json.dumps(results))
    publish_run(monkeypatch, other, page)
    low, high = 50 * first, 100 * first
    text = page.read_text(encoding="utf-8")
    assert f"| {(low + high) / 2:.1f} [{low:.1f}, {high:.1f}] |" in text
    assert [run.results.provenance.seed for run in publish.published(tmp_path / "tiny.json")][
        1
    ] == 7


def test_runs_that_were_judged_otherwise_are_not_mixed(monkeypatch, tmp_path, tiny_run):
    page, other = tmp_path / "tiny.md", tmp_path / "other"
    publish_run(monkeypatch, tiny_run.folder, page)
    shutil.copytree(tiny_run.folder, other)
    results = json.loads((other / "report" / "results.json").read_text())
    results["attack"]["epsilon"] /= 2
    (other / "report" / "results.json").write_text(json.dumps(results))
    before = page.read_bytes()
    with pytest.raises(UserError, match="another attack"):
        publish_run(monkeypatch, other, page)
    assert page.read_bytes() == before


def test_the_readme_shows_what_is_stored():
    readme = (readme_results.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_results.filled(readme, readme_results.results_table()) == readme


def test_a_readme_without_a_place_for_results_is_refused():
    with pytest.raises(UserError, match="<!-- results -->"):
        readme_results.filled("# atd", "| a |")

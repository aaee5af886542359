"""The document of a run is what its command makes of the run folder."""

from __future__ import annotations

import sys

import pytest

from atd.errors import UserError
from benchmarks import publish, readme_results


def test_a_finished_run_is_published(monkeypatch, tmp_path, tiny_run):
    words = ["benchmark", str(tiny_run.folder), str(tmp_path / "tiny.md")]
    monkeypatch.setattr(sys, "argv", words)
    publish.main()
    text = (tmp_path / "tiny.md").read_text(encoding="utf-8")
    both = 100 * tiny_run.results["mean"]["both"]["auroc"]
    assert f"{both:.1f}" in text
    assert "Minutes: helper" in text
    assert (tmp_path / "tiny.json").is_file()


def test_the_readme_shows_what_is_stored():
    readme = (readme_results.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_results.filled(readme, readme_results.results_table()) == readme


def test_a_readme_without_a_place_for_results_is_refused():
    with pytest.raises(UserError, match="<!-- results -->"):
        readme_results.filled("# atd", "| a |")

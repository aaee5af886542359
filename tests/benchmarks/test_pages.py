"""The document of a run is what its command makes of the run folder."""

from __future__ import annotations

import sys

from benchmarks import publish


def test_a_finished_run_is_published(monkeypatch, tmp_path, tiny_run):
    words = ["benchmark", str(tiny_run.folder), str(tmp_path / "tiny.md")]
    monkeypatch.setattr(sys, "argv", words)
    publish.main()
    text = (tmp_path / "tiny.md").read_text(encoding="utf-8")
    both = 100 * tiny_run.results["mean"]["both"]["auroc"]
    assert f"{both:.1f}" in text
    assert "Minutes: helper" in text
    assert (tmp_path / "tiny.json").is_file()

"""The benchmark of exports: on a tiny detector, and its page."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import exports
from benchmarks.export_forms import FILES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_is_the_one_made_of_the_results():
    found = json.loads((DOCS / "export.json").read_text(encoding="utf-8"))
    assert (DOCS / "export.md").read_text(encoding="utf-8") == exports.page(found)


def test_onnx_is_at_least_as_fast_as_torch_and_int8_is_judged_under_attack():
    for item in json.loads((DOCS / "export.json").read_text(encoding="utf-8"))["detectors"]:
        batches = item["forms"]["onnx"]["batches"]
        assert list(batches) == ["1", "32", "256"]
        assert min(row["times_faster"]["median"] for row in batches.values()) >= 1
        assert item["rounded"]["int8"]["both"]["auroc"] < item["rounded"]["int8"]["clean"]["auroc"]


@pytest.mark.slow
def test_every_form_is_timed(tiny_run, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="ONNX is optional: requirements-dev.txt")
    output = tmp_path / "export.md"
    # Compiling takes a minute.
    forms = {form: file for form, file in FILES.items() if form != "compiled"}
    monkeypatch.setattr(exports, "FILES", forms)
    monkeypatch.setattr(exports, "_ROUNDS", (1, 1))
    monkeypatch.setattr(exports, "BATCHES", (1, 2))
    folder = shutil.copytree(tiny_run.folder / "detector", tmp_path / "detector")
    record = json.loads((folder / "config.json").read_text("utf-8"))
    record["training"]["data"]["ood_limit"] = 32  # as many as an export asks for
    (folder / "config.json").write_text(json.dumps(record), "utf-8")
    words = [str(folder), "--starts", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["exports", *words])
    exports.main()
    (found,) = json.loads(output.with_suffix(".json").read_text("utf-8"))["detectors"]
    assert list(found["forms"]) == list(forms)
    weights = (folder / "model.safetensors").read_bytes()
    assert found["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    for row in found["forms"].values():
        assert all(batch["ms"]["median"] > 0 for batch in row["batches"].values())
        assert row["start"]["median"] > 0
        assert row["mib"][0] <= row["mib"][1]
    text = output.read_text("utf-8")
    assert f"Weights: SHA-256 `{found['weights_sha256']}`." in text
    assert all(f"| {form} | " in text for form in (*forms, "float32", "int8"))
    assert f"L-infinity {found['rounded']['attack']['epsilon']} by PGD" in text

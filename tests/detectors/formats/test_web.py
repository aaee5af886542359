"""The folder of the page; that it works in a browser is tried in `tests/clients/test_page.py`."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from making import make_detector

from atd.detectors.formats import check_formats, web
from atd.detectors.formats.manifest import describe
from atd.detectors.formats.traced import Scorer, Traced
from atd.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder below one in which npm has installed ONNX Runtime for browsers."""
    package = tmp_path / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "1.2.3"}')
    (package / "dist" / "ort.wasm.bundle.min.mjs").write_text("script")
    (package / "dist" / "ort-wasm-simd-threaded.wasm").write_text("assembly")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")


@pytest.fixture
def traced(monkeypatch, tmp_path):
    def write(_, file):
        file.write_bytes(b"model")
        return "run"

    monkeypatch.setattr(web.onnx, "write", write)
    detector = make_detector().eval()
    scorer = Scorer(detector).eval()
    return Traced(
        detector=detector,
        scorer=scorer,
        program=None,
        description=describe(detector, scorer),
        scratch=tmp_path,
        opset=20,
    )


def test_the_folder_holds_all_that_the_page_asks_for_and_nothing_else(installed, traced, tmp_path):
    folder = tmp_path / "web"
    assert web.write(traced, folder) == "run"
    names = {file.name for file in folder.iterdir()}
    texts = {
        file.name: file.read_text() for file in folder.iterdir() if file.suffix in (".js", ".html")
    }
    quoted = {name for text in texts.values() for name in re.findall(r'"(?:\./)?([\w.]+)"', text)}
    named = {name for name in quoted if re.search(r"\.(js|css|json|onnx|wasm)$", name)}
    assert named == names - {"index.html"}
    assert (folder / "onnxruntime.js").read_text() == "script"
    assert (folder / "onnxruntime.wasm").read_text() == "assembly"


def test_the_manifest_tells_scores_to_check_the_browser_with(installed, traced, tmp_path):
    folder = tmp_path / "web"
    web.write(traced, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    images = web.probes(3, 8)
    assert images.shape == (2, 3, 8, 8)
    assert images[0].min() == 0
    assert images[0].max() == 255
    assert images[1].float().std() > 60
    found = traced.detector.score(images)
    torch.testing.assert_close(torch.tensor(manifest["check"]["scores"]), found)
    assert manifest["runtime"] == {"onnxruntime-web": "1.2.3"}
    assert manifest["classes"] == ["a", "b"]
    assert manifest["files"]["detector.onnx"]["sha256"] == hashlib.sha256(b"model").hexdigest()
    assert set(manifest["files"]) == {file.name for file in folder.iterdir()} - {"manifest.json"}


def test_calibration_scores_are_sorted_and_thinned_out(installed, traced, tmp_path, monkeypatch):
    scores = torch.randperm(1000).float()
    traced.detector.calibration = SimpleNamespace(scores=scores)
    monkeypatch.setattr(web, "_MOST_SCORES", 11)
    web.write(traced, tmp_path / "web")
    manifest = json.loads((tmp_path / "web" / "manifest.json").read_text())
    kept = manifest["calibration"]["scores"]
    assert kept == sorted(kept)
    assert len(kept) == 11
    assert (kept[0], kept[-1]) == (0, 999)


def test_without_onnxruntime_web_one_line_names_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is optional: requirements-dev.txt")
    with pytest.raises(UserError) as caught:
        check_formats(["web"], "detector", images=False)
    (command,) = re.findall("npm install .*", str(caught.value))
    assert str(caught.value).endswith(command)
    assert command in (ROOT / "docs" / "clients.md").read_text()
    locked = json.loads((ROOT / "examples" / "web" / "package.json").read_text())["dependencies"]
    assert command.endswith(f"onnxruntime-web@{locked['onnxruntime-web']}")


def test_the_page_scores_no_features(traced, tmp_path):
    features = Traced(**{**vars(traced), "scorer": torch.nn.Identity()})
    with pytest.raises(UserError, match="--part"):
        web.write(features, tmp_path / "web")
    assert not (tmp_path / "web").exists()

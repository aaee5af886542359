"""Exported detectors: parity, dynamic batch, and nothing left behind after a failure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from atd.detectors import export
from atd.detectors.atd import ATD
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.external import External
from atd.detectors.formats import FORMATS
from atd.detectors.formats.int8 import _told_of_threshold
from atd.detectors.formats.parity import Samples
from atd.errors import UserError

SIZE = 8


def make_detector(folder, architecture="preact_resnet18", channels=3, pixels=False):
    torch.manual_seed(0)
    backbone = {"architecture": architecture, "width": 4, "features": "multi"}
    config = DetectorConfig(
        kind="atd",
        backbone=None if pixels else backbone,
        classes=["a", "b"],
        image_size=16 if pixels else SIZE,
        channels=channels,
        options={"normalisation": "layer"},
        threshold=0.25,
        provenance={"seed": 3},
    )
    detector = build_detector(config)
    for name, buffer in detector.named_buffers():
        if name.endswith(("running_mean", "feature_mean")):
            buffer.normal_(std=0.1)
    detector.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_detector(tmp_path_factory.mktemp("source") / "detector")


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    """One export in several formats, shared by the tests that only read it."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is optional: requirements-dev.txt")
    images = tmp_path_factory.mktemp("own")
    generator = np.random.default_rng(0)
    for index in range(32):
        pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((9, 9)).save(images / f"{index}.png")
    output = tmp_path_factory.mktemp("output") / "export"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atd.detectors.formats.int8._MOST", 16)
        return export.export_detector(
            source, output, ["pt2", "onnx", "onnx-int8"], opset=19, calibration=[images]
        )


def runners(folder):
    import onnxruntime

    program = torch.export.load(folder / "detector.pt2").module()
    session = onnxruntime.InferenceSession(folder / "detector.onnx")
    name = session.get_inputs()[0].name
    yield lambda images: program(images).detach()
    yield lambda images: torch.from_numpy(session.run(["score"], {name: images.numpy()})[0])


def test_both_files_give_the_detectors_scores_at_any_batch_size(source, folder):
    detector = Detector.from_pretrained(source)
    for run in runners(folder):
        for count in (1, 3, 5, 64, 100):
            pixels = np.random.default_rng(count).integers(0, 256, (count, 3, SIZE, SIZE))
            images = torch.from_numpy(pixels.astype(np.uint8))
            torch.testing.assert_close(run(images), detector.score(images), rtol=1e-4, atol=1e-5)


def test_manifest_describes_the_files(source, folder):
    assert {file.name for file in folder.iterdir()} == {
        "detector.pt2",
        "detector.onnx",
        "detector-int8.onnx",
        "manifest.json",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert manifest["input"]["shape"] == ["batch", 3, SIZE, SIZE]
    assert manifest["input"]["dtype"] == "uint8"
    assert manifest["input"]["range"] == [0, 255]
    assert "larger = more" in manifest["score_direction"]
    assert manifest["threshold"] == 0.25
    assert manifest["provenance"]["seed"] == 3
    parity = manifest["parity"]
    for deviations in parity["largest_deviation"].values():
        batches = {f"batch {size}" for size in (0, 1, 2, 7, 64, 1000, 3000)}
        assert set(deviations) == batches | {"real", "blobs", "boundary", "attacked"}
        assert max(deviations.values()) <= parity["tolerance"] < 1e-3


def test_int8_is_rounded_and_judged_beside_float32(source, folder):
    import onnx
    import onnxruntime

    model = onnx.load(folder / "detector-int8.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") <= kinds.count("QuantizeLinear")
    assert {item.data_type for item in model.graph.initializer} >= {onnx.TensorProto.INT8}
    session = onnxruntime.InferenceSession(folder / "detector-int8.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["precision"], facts["threshold"]) == ("int8", "0.25")
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (64, 3, SIZE, SIZE)).astype(np.uint8)
    rounded = session.run(["score"], {"images": images})[0]
    exact = Detector.from_pretrained(source).score(images).numpy()
    assert 0 < np.abs(rounded - exact).mean() < 0.5 * exact.std()
    assert np.corrcoef(rounded, exact)[0, 1] > 0.9
    found = json.loads((folder / "manifest.json").read_text())["rounded"]["detector-int8.onnx"]
    assert found["calibration"]["images"] == found["id"]["images"] == 16
    assert found["ood"]["images"] == 16
    assert found["attack"]["epsilon"] == "8/255"
    assert len(found["attack"]["members"]) == 2
    for precision in ("int8", "float32"):
        clean, both = found[precision]["clean"], found[precision]["both"]
        assert 0 <= both["auroc"] < clean["auroc"] <= 1
        assert 0 <= both["id_called_id"] <= clean["id_called_id"] <= 1
        assert 0 <= clean["ood_called_id"] <= both["ood_called_id"] <= 1


def test_the_threshold_in_an_int8_file_is_told_in_a_line():
    shares = {"auroc": 0.9, "id_called_id": 0.95, "ood_called_id": 0.125}
    sides = {"clean": shares, "both": {**shares, "id_called_id": 0.5}}
    assert _told_of_threshold({"int8": sides, "float32": sides}) == (
        "at the threshold so many ID / OOD images are called ID: "
        "int8 95.0% / 12.5% clean, 50.0% / 12.5% attacked; "
        "float32 95.0% / 12.5% clean, 50.0% / 12.5% attacked"
    )


def test_the_opset_is_the_one_asked_for(folder):
    import onnx

    model = onnx.load(folder / "detector.onnx")
    assert [item.version for item in model.opset_import if not item.domain] == [19]
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "batch"


def test_the_discriminator_alone_takes_features(source, tmp_path):
    output = export.export_detector(source, tmp_path / "part", ["pt2"], part="discriminator")
    manifest = json.loads((output / "manifest.json").read_text())
    detector = Detector.from_pretrained(source)
    images = torch.rand(5, 3, SIZE, SIZE)
    features = detector.backbone.features(images).detach()
    assert manifest["input"]["name"] == "features"
    assert manifest["input"]["shape"] == ["batch", features.shape[1]]
    program = torch.export.load(output / "discriminator.pt2")
    assert not [name for name in program.state_dict if "conv" in name]
    scores = program.module()(features).detach()
    torch.testing.assert_close(scores, detector.logits(images).detach())


def test_one_format_needs_no_onnx(source, tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    output = export.export_detector(source, tmp_path / "export", ["pt2"])
    assert {file.name for file in output.iterdir()} == {"detector.pt2", "manifest.json"}


@pytest.mark.parametrize(
    "options",
    [{"architecture": "wide_resnet28", "channels": 1}, {"pixels": True}],
    ids=["wide grey", "pixels"],
)
def test_other_detectors_export_too(tmp_path, options):
    source = make_detector(tmp_path / "detector", **options)
    output = export.export_detector(source, tmp_path / "export", ["pt2"])
    assert json.loads((output / "manifest.json").read_text())["files"].keys() == {"detector.pt2"}


def replace_pt2(monkeypatch, write):
    monkeypatch.setitem(FORMATS, "pt2", dataclasses.replace(FORMATS["pt2"], write=write))


def test_a_file_with_other_scores_is_deleted(source, tmp_path, monkeypatch):
    honest = FORMATS["pt2"].write

    def dishonest(traced, file):
        run = honest(traced, file)
        return lambda images: run(images) + 0.01 * (len(images) == 7)

    replace_pt2(monkeypatch, dishonest)
    with pytest.raises(RuntimeError, match=r"detector\.pt2: batch 7: .* by 0\.01"):
        export.export_detector(source, tmp_path / "export", ["pt2"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_undefined_scores_is_deleted(source, tmp_path, monkeypatch):
    replace_pt2(
        monkeypatch, lambda traced, file: lambda images: torch.full((len(images),), torch.nan)
    )
    with pytest.raises(RuntimeError, match=r"detector\.pt2"):
        export.export_detector(source, tmp_path / "export", ["pt2"])
    assert list(tmp_path.iterdir()) == []


def test_an_older_export_survives_a_failure_and_is_replaced_otherwise(
    source, tmp_path, monkeypatch
):
    output = tmp_path / "export"
    output.mkdir()
    (output / "manifest.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(Samples, "tolerance", lambda self: -1.0)
        with pytest.raises(RuntimeError):
            export.export_detector(source, output, ["pt2"])
    assert (output / "manifest.json").read_text() == "{}"
    export.export_detector(source, output, ["pt2"])
    assert "sha256" in (output / "manifest.json").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["export"]


def test_mistakes_name_the_remedy(source, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--formats onx: unknown; the nearest is onnx"):
        export.export_detector(source, tmp_path / "export", ["pt2", "onx"])
    with pytest.raises(UserError, match="not a detector folder"):
        export.export_detector(tmp_path, tmp_path / "export", ["pt2"])
    for name in ("photos", "export.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
        (tmp_path / name / "photo.png").write_text("precious")
    with pytest.raises(UserError, match="photos: exists and is not an export; it stays"):
        export.export_detector(source, tmp_path / "photos", ["pt2"])
    export.export_detector(source, tmp_path / "export", ["pt2"])
    assert (tmp_path / "export.old" / "photo.png").read_text() == "precious"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime$"):
        export.export_detector(source, tmp_path / "export", ["onnx"])


def test_the_onnx_file_describes_itself(folder):
    import onnxruntime

    model = onnxruntime.InferenceSession(folder / "detector.onnx").get_modelmeta()
    facts = model.custom_metadata_map
    assert facts["threshold"] == "0.25"
    assert facts["kind"] == "atd"
    assert "larger = more" in facts["score_direction"]
    assert "0 to 255" in facts["preprocessing"]


def test_foreign_modules_export_where_torch_can_trace_them(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))
    detector = External(network.train(), image_size=8, channels=3)
    output = export.export_detector(detector, tmp_path / "export", ["pt2"])
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    program = torch.export.load(output / "detector.pt2").module()
    torch.testing.assert_close(program(images).detach(), detector.score(images))
    assert network.training


def test_what_torch_cannot_trace_is_refused_in_one_line(tmp_path):
    def decides(images):
        return images.mean((1, 2, 3)) * (2 if images.mean() > 0.5 else 1)

    detector = External(decides, image_size=8, channels=3)
    with pytest.raises(UserError, match="decides: torch.export cannot trace it") as error:
        export.export_detector(detector, tmp_path / "export", ["pt2"])
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_not_there_is_refused(tmp_path):
    detector = External(lambda images: images.mean((1, 2, 3)), image_size=8, channels=3)
    with pytest.raises(UserError, match="of kind external and has no discriminator of features"):
        export.export_detector(detector, tmp_path / "a", ["pt2"], part="discriminator")
    pixels = Detector.from_pretrained(make_detector(tmp_path / "pixels", pixels=True))
    with pytest.raises(UserError, match="is of pixels and has no discriminator of features"):
        export.export_detector(pixels, tmp_path / "a", ["pt2"], part="discriminator")


def test_scores_that_depend_on_batch_mates_are_refused(source, tmp_path):
    detector = Detector.from_pretrained(source)
    detector.options = dataclasses.replace(detector.options, batch_statistics=True)
    with pytest.raises(UserError, match="scores depend on batch mates"):
        export.export_detector(detector, tmp_path / "a", ["pt2"])


def test_options_out_of_range_are_refused(source, tmp_path):
    for opset in (17, 24):
        with pytest.raises(UserError, match=f"--opset {opset}: choose one from 18 to 23"):
            export.export_detector(source, tmp_path / "a", ["pt2"], opset=opset)
    with pytest.raises(UserError, match="--ood: judges onnx-int8; name --calibration"):
        export.export_detector(source, tmp_path / "a", ["pt2"], ood=[tmp_path])


def test_a_kind_that_cannot_be_exported_says_why(tmp_path, source, monkeypatch):
    detector = Detector.from_pretrained(source)
    monkeypatch.setattr(ATD, "info", dataclasses.replace(ATD.info, exportable="it dreams"))
    with pytest.raises(UserError, match="kind atd cannot be exported: it dreams"):
        export.export_detector(detector, tmp_path / "export", ["pt2"])

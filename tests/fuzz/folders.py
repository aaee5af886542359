"""Detector folders and state dicts from strangers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from atd.backbones import build_backbone
from atd.backbones.weights import load_weights
from atd.config import BackboneConfig
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from tests.fuzz.mutations import TEXTS, as_json, damaged_bytes, damaged_value

_SMALL: dict[str, Any] = {"width": 4, "features": "last"}
_IMAGES = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
SAMPLES: dict[str, dict[str, Any]] = {
    "atd": {"kind": "atd", "backbone": _SMALL, "options": {"normalisation": "layer"}},
    "pixels": {"kind": "atd", "backbone": None, "options": {"normalisation": "batch"}},
    "energy": {"kind": "energy", "backbone": _SMALL, "options": {"temperature": 2.0}},
}


@cache
def honest_detector(name: str) -> tuple[bytes, bytes]:
    """config.json and model.safetensors of a small honest detector."""
    import tempfile

    torch.manual_seed(0)
    config = DetectorConfig(
        **SAMPLES[name], image_size=8, channels=3, classes=["a", "b"], threshold=0.5
    )
    with tempfile.TemporaryDirectory() as folder:
        build_detector(config).eval().save_pretrained(Path(folder) / "d")
        files = [Path(folder) / "d" / name for name in ("config.json", "model.safetensors")]
        config_bytes, weights = (file.read_bytes() for file in files)
        _used(Path(folder) / "d")  # imports whatever an honest one needs
    return config_bytes, weights


def _written(scratch: Path, config: bytes, weights: bytes) -> Path:
    folder = scratch / "detector"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def _used(folder: Path) -> object:
    """Loads and scores; a detector that loads must not let a doubtful image pass."""
    detector = Detector.from_pretrained(folder)
    images = _IMAGES.to(torch.uint8)
    if detector.config.image_size != 8 or detector.config.channels != 3:
        side, channels = min(detector.config.image_size, 64), detector.config.channels
        images = torch.zeros(1, channels, side, side, dtype=torch.uint8)
        if side != detector.config.image_size:
            return detector.config
    scores = detector.score(images)
    if detector.threshold is not None:
        flagged = detector.predict(images)
        assert flagged[~scores.isfinite()].all(), "a score that is not finite passes"
    return detector.config


def a_config_json(rng: Random, scratch: Path) -> Callable[[], object]:
    """An honest detector's config.json, damaged as a value or as bytes."""
    config, weights = honest_detector(rng.choice(list(SAMPLES)))
    if rng.random() < 0.75:
        config = as_json(damaged_value(rng, json.loads(config)))
    else:
        config = damaged_bytes(rng, config)
    folder = _written(scratch, config, weights)
    return lambda: _used(folder)


def a_weight_file(rng: Random, scratch: Path) -> Callable[[], object]:
    """Damaged weights: bytes, the header, or values; often with a digest that fits them."""
    config, weights = honest_detector(rng.choice(list(SAMPLES)))
    match rng.randrange(4):
        case 0:
            weights = damaged_bytes(rng, weights)
        case 1:
            weights = _other_header(rng, weights)
        case 2:
            length = 8 + struct.unpack("<Q", weights[:8])[0]
            weights = weights[:length] + _other_values(rng, weights[length:])
        case _:
            weights = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, 2**64 - 1))) + weights[8:]
    if rng.random() < 0.7:
        values = json.loads(config)
        values["weights_sha256"] = hashlib.sha256(weights).hexdigest()
        config = as_json(values)
    folder = _written(scratch, config, weights)
    return lambda: _used(folder)


def _other_header(rng: Random, weights: bytes) -> bytes:
    length = struct.unpack("<Q", weights[:8])[0]
    header = as_json(damaged_value(rng, json.loads(weights[8 : 8 + length])))
    return struct.pack("<Q", len(header)) + header + weights[8 + length :]


def _other_values(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 100))):
        at = 4 * rng.randrange(len(data) // 4)
        value = rng.choice((float("nan"), float("inf"), -1e38, 0.0, 1e30, -1.0))
        changed[at : at + 4] = struct.pack("<f", value)
    return bytes(changed)


class _Runs:
    """A pickle that runs a command when it is loaded the wrong way."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@cache
def _state_dicts() -> list[bytes]:
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(**_SMALL), channels=3, classes=2, image_size=8)
    state = network.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    contents: list[object] = [
        state,
        wrapped,
        {"state_dict": wrapped, "optimizer": {"lr": 0.1}, "epoch": 3},
        {"model": {f"model.{key}": value for key, value in state.items()}},
        {"state_dict": {"model": {"state_dict": {}}}},
        {"state_dict": [1, 2]},
        {3: torch.zeros(2), "a": "b"},
        {**state, "head.weight": torch.zeros(1000, 4)},
        {key: value.to(torch.complex64) for key, value in state.items()},
        {key: value.to_sparse() for key, value in state.items() if value.ndim == 2},
        {key: value.to("meta") for key, value in state.items()},
        {key: torch.full_like(value, float("nan")) for key, value in state.items() if value.ndim},
        [],
        "text",
        network,
        _Runs(os.system, "true"),
        {"state_dict": _Runs(eval, "1+1")},
    ]
    found = []
    for content in contents:
        for old in (False, True):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=not old)
            found.append(buffer.getvalue())
    return found


def a_state_dict(rng: Random, scratch: Path) -> Callable[[], object]:
    """`backbone.weights` as people have them, and as nobody should."""
    content = rng.choice(_state_dicts())
    match rng.randrange(5):
        case 0:
            content = damaged_bytes(rng, content)
        case 1 if content[:2] == b"PK":
            content = _other_member(rng, content)
        case 2:
            content = damaged_bytes(rng, honest_detector(rng.choice(list(SAMPLES)))[1])
        case 3:
            content = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    ending = rng.choice((".pt", ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ""))
    file = scratch / f"weights{ending}"
    file.write_bytes(content)
    network = build_backbone(BackboneConfig(**_SMALL), channels=3, classes=2, image_size=8)
    needs_head = rng.random() < 0.5
    return lambda: load_weights(network, file, needs_head=needs_head)


def _other_member(rng: Random, content: bytes) -> bytes:
    """A zip archive with one damaged member whose checksum is right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, damaged_bytes(rng, data) if name == chosen else data)
    return buffer.getvalue()

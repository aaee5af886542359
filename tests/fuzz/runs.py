"""What earlier runs left behind, damaged: run folders, training states, scores, image lists."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from atd.config import Config, DataConfig
from atd.data.sources import open_source
from atd.evaluation.cache import ScoreStore
from atd.run_folder import RunFolder
from atd.training.checkpoint import load_newest, save_state
from atd.training.logbook import Logbook
from tests.fuzz.folders import honest_detector
from tests.fuzz.mutations import TEXTS, as_json, damaged_bytes, damaged_text, damaged_value

_IMAGES = {"id_train": {"name": "digits", "images": 3, "sha256": "0" * 64}}
_NOTES = ("config.yaml", "stats.jsonl", "state/config.yaml", "state/data.json", "state/finished")
_ARTEFACTS = (
    "detector/config.json",
    "report/results.json",
    "report/scores.npz",
    "state/atd.safetensors",
)


@cache
def _finished_run() -> dict[str, bytes]:
    """The files of a small run folder that is whole, by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        folder.claim(Config())
        folder.claim_images(_IMAGES, Config())
        state = {"step": 3, "task": {"weight": torch.ones(3)}, "random": [1, (2, None)]}
        save_state(folder.state / "atd.safetensors", state)
        log = Logbook(folder.path)
        log.scalars("atd", 1, 0.5, 8, {"loss": 1.0})
        log.close()
        folder.detector.mkdir()
        config, weights = honest_detector("atd")
        (folder.detector / "config.json").write_bytes(config)
        (folder.detector / "model.safetensors").write_bytes(weights)
        (folder.detector / "README.md").write_text("# card\n")
        folder.report.mkdir()
        results = {"schema": 1, "mean": {"clean": {"auroc": 1.0}}, "provenance": {"date": "today"}}
        (folder.report / "results.json").write_text(json.dumps(results))
        for name_ in ("report.md", "report.html"):
            (folder.report / name_).write_text("<html></html>")
        np.savez(folder.report / "scores.npz", index=np.arange(3), clean=np.zeros(3))
        folder.finish()
        assert folder.is_finished(Config()), folder.problem()
        files = [file for file in folder.path.rglob("*") if file.is_file()]
        kept = [file for file in files if "tensorboard" not in file.parts]
        return {str(file.relative_to(folder.path)): file.read_bytes() for file in kept}


def a_run_folder(rng: Random, scratch: Path) -> Callable[[], object]:
    """A finished run with one file damaged, gone or a folder; the same command is given again."""
    files = dict(_finished_run())
    name = rng.choice(_NOTES + _ARTEFACTS)
    content = files[name]
    folder = _written(scratch / "run", files)
    match rng.randrange(6):
        case 0:
            (folder / name).unlink()
        case 1:
            (folder / name).unlink()
            (folder / name).mkdir()
        case 2 if name.endswith((".json", "finished")):
            (folder / name).write_bytes(as_json(damaged_value(rng, json.loads(content))))
        case 3:
            (folder / name).write_bytes(rng.choice((b"", b"null", b"{}", b"\xff\xfe", b"[" * 5000)))
        case _:
            (folder / name).write_bytes(damaged_bytes(rng, content))

    def case() -> object:
        run, config = RunFolder(folder), Config()
        finished = run.is_finished(config)
        run.problem()
        run.set_names()
        run.claim(config)
        run.claim_images(_IMAGES, config)
        Logbook(run.path).forget_after("atd", 0)
        load_newest(run.state, "atd", lambda _: None)
        return finished

    return case


def _written(folder: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def a_score_file(rng: Random, scratch: Path) -> Callable[[], object]:
    """Scores of an interrupted evaluation; damaged ones count as absent."""
    buffer = io.BytesIO()
    objects = np.array([{"a": 1}], dtype=object) if rng.random() < 0.2 else np.zeros(3)
    np.savez_compressed(buffer, index=np.arange(3), score=objects, steps=np.ones((2, 3)))
    file = scratch / "set.npz"
    file.write_bytes(damaged_bytes(rng, buffer.getvalue()))
    store = ScoreStore(file)

    def case() -> object:
        found = store.read()
        return found is None or sorted(found)

    return case


def an_image_list(rng: Random, scratch: Path) -> Callable[[], object]:
    """A source of images: a list of files that somebody else wrote, or a word for one."""
    folder = scratch / "images"
    folder.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(folder / name)
    lines = [f"a.png {rng.randrange(3)}", "b.png 1"]
    lines[rng.randrange(2)] = damaged_text(rng, "b.png 1")
    text = "\n".join(lines).encode("utf-8", "surrogateescape" if rng.random() < 0.5 else "replace")
    (folder / "list.txt").write_bytes(damaged_bytes(rng, text) if rng.random() < 0.3 else text)
    source = f"list:{folder / 'list.txt'}"
    if rng.random() < 0.3:
        source = rng.choice((f"folder:{rng.choice(TEXTS)}", f"list:{rng.choice(TEXTS)}"))
        source = rng.choice((source, damaged_text(rng, "bundled:digits + jigsaw:bundled:digits")))
    data = DataConfig(image_size=8, root=str(scratch / "root"))

    def case() -> object:
        images = open_source(source, split="all", data=data)
        return images.fetch(range(min(2, len(images)))).shape

    return case

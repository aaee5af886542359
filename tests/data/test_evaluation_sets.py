"""The sets of an evaluation say what was not read of their folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atd.config import load
from atd.data.evaluation_sets import EvaluationSets
from atd.data.splits import load_splits


def fill(folder, seed, count=12):
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng([seed, index]).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.mark.parametrize("spoilt", [(), ("cats",), ("cats", "other")])
def test_unused_files_are_named_once_for_each_folder(tmp_path, spoilt):
    fill(tmp_path / "cats", 0, 20)
    fill(tmp_path / "other", 1)
    for name in spoilt:
        (tmp_path / name / "IMG.CR2").touch()
        (tmp_path / name / "5.png").write_text("no image")
    words = [f"data.id=folder:{tmp_path}/cats", f"data.ood_test=folder:{tmp_path}/other"]
    words += ["data.skip_corrupt=true", "data.image_size=8", "data.outliers=bundled:capitals"]
    lines = EvaluationSets.of(load_splits(load(None, words))).unused_files()
    for name in ("cats", "other"):
        found = [line for line in lines if line.startswith(f"files of {name}: ")]
        assert any("1 .cr2 files (IMG.CR2)" in line for line in found) is (name in spoilt)
        assert any("1 unreadable images" in line for line in found) is (name in spoilt)

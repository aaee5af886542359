"""`pixels.js` and the Node client's copy of it give the bytes of `atd.data.decoding.decode`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atd.data.decoding import decode

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "atd" / "detectors" / "formats" / "page"
CLIENT = ROOT / "examples" / "node" / "pixels.mjs"
CASES = [  # width, height, channels, size
    (32, 32, 3, 32),
    (33, 57, 3, 32),
    (57, 33, 1, 32),
    (8, 9, 3, 32),
    (1, 5, 1, 8),
    (7, 100, 3, 16),
    (100, 7, 3, 16),
    (640, 481, 3, 224),
    (20, 33, 3, 8),
    (20, 32, 3, 8),
    (5, 5, 1, 64),
    (1000, 700, 1, 28),
]
PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
import { prepare } from "./pixels.mjs";
for (const [name, width, height, channels, size] of JSON.parse(readFileSync("cases.json"))) {
  const rgba = readFileSync(`${name}.rgba`);
  const rows = (top, count) => rgba.subarray(4 * width * top, 4 * width * (top + count));
  writeFileSync(`${name}.found`, prepare({ width, height, rows }, channels, size));
}
"""


def test_the_node_client_has_the_pages_own_preprocessing():
    assert CLIENT.read_bytes() == (PAGE / "pixels.js").read_bytes(), f"copy pixels.js to {CLIENT}"


@pytest.mark.slow
def test_every_byte_is_that_of_pillow(tmp_path, program):
    node = program("node")
    generator = np.random.default_rng(0)
    expected = []
    for name, (width, height, channels, size) in enumerate(CASES):
        pixels = generator.integers(0, 256, (height, width, 4), dtype=np.uint8)
        if name % 2:  # hard edges, at which a bicubic filter leaves the range
            pixels[..., :3] = 255 * generator.integers(0, 2, (height, width, 1))
        if name % 3:
            pixels[..., 3] = 255
        (tmp_path / f"{name}.rgba").write_bytes(pixels.tobytes())
        expected.append(decode(Image.fromarray(pixels), channels, size).numpy().tobytes())
    cases = [[name, *case] for name, case in enumerate(CASES)]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "pixels.mjs").write_bytes(CLIENT.read_bytes())
    (tmp_path / "run.mjs").write_text(PROGRAM)
    subprocess.run([node, "run.mjs"], cwd=tmp_path, check=True, timeout=60)
    for name, wanted in enumerate(expected):
        assert (tmp_path / f"{name}.found").read_bytes() == wanted, CASES[name]

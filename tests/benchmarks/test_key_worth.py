"""What a key is worth: a twin of the same key attacks better than one that looks elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from atd import External
from benchmarks import key_worth
from benchmarks.key_worth import KeyWorth


class Pixels(nn.Module):
    """Scores by a few pixels, which its key names; a flow's seed changes their weights a little."""

    def __init__(self, key_seed, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(key_seed)
        self.places = torch.randperm(192, generator=generator)[:20]
        self.weights = 1 + 0.1 * torch.rand(20, generator=torch.Generator().manual_seed(seed))

    def forward(self, images):
        return images.flatten(1)[:, self.places] @ self.weights


def make(key_seed, seed):
    return External(Pixels(key_seed, seed), image_size=8, channels=3)


def test_other_keys_attack_worse():
    generator = torch.Generator().manual_seed(0)
    inside = 0.2 + 0.2 * torch.rand(40, 3, 8, 8, generator=generator)
    outside = inside + 0.15
    found = key_worth.key_worth(make, inside, outside, epsilon=0.1, steps=3)
    assert found.clean == 1
    assert found.known == pytest.approx(found.same_key, abs=0.02)
    assert found.known < 0.5 < min(found.other_keys)
    assert found.worth == pytest.approx(sum(found.other_keys) / 3 - found.same_key)


@pytest.mark.slow
def test_the_command_writes_its_page(monkeypatch, tmp_path):
    small = ["--images", "10", "--steps", "1", "--epochs", "1", "loader.workers=0"]
    page = tmp_path / "key.md"
    monkeypatch.setattr(sys, "argv", ["key_worth", *small, "--output", str(page)])
    key_worth.main()
    assert "The key alone is worth" in page.read_text()
    assert page.with_suffix(".json").exists()


def test_the_published_page_is_made_of_its_record():
    docs = Path(__file__).parents[2] / "docs"
    record = json.loads((docs / "daain_key.json").read_text(encoding="utf-8"))
    assert key_worth.page(record) == (docs / "daain_key.md").read_text(encoding="utf-8")


def test_the_table_tells_all_four():
    table = key_worth.rows_of(KeyWorth(0.99, 0.4, 0.5, [0.7, 0.9]))
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:]] == [
        "0.990",
        "0.400",
        "0.500",
        "0.800",
    ]

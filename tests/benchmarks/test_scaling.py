"""The scaling benchmark tells what whole runs recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scaling import QUICK, images_per_second, measure
from benchmarks.scaling_page import NAMES, page

ROOT = Path(__file__).parents[2]


def test_the_rate_is_the_median_of_the_steps_of_a_stage(tmp_path):
    def line(step, rate, stage="atd"):
        pace = {"images_per_second": rate, "seconds_communication": 0.5}
        return {"stage": stage, "step": step, "images": 64 * step} | pace

    rates = [1.0, 1.0, 30.0, 32.0, 35.0]
    lines = [line(1, 9.0, "helper"), *(line(step, rate) for step, rate in enumerate(rates, 1))]
    lines.append({"stage": "atd", "selection": 0.9})
    (tmp_path / "run").mkdir()
    text = "\n".join(json.dumps(item) for item in lines)
    (tmp_path / "run" / "stats.jsonl").write_text(text, encoding="utf-8")
    # A step of 64 images takes two seconds, of which half a second goes to exchanges.
    assert images_per_second(tmp_path, "atd") == {"rate": 32.0, "share": 0.25}


def test_the_document_is_the_one_made_of_the_results():
    found = json.loads((ROOT / "docs" / "scaling.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8") == page(found)


@pytest.mark.slow
@pytest.mark.dist
def test_one_process_two_and_separate_jobs_are_timed():
    found = measure(QUICK)
    for name in NAMES:
        item = found["throughput"][name]
        assert min(item[side]["median"] for side in ("one", "two", "separate")) > 0
        ratio = item["two"]["median"] / item["one"]["median"]
        assert item["speedup"]["median"] == pytest.approx(ratio)
    assert found["throughput"]["atd"]["exchanges"]["share"] > 0

"""Which kinds are exported: tried, and told on the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atd.detectors.kinds import KINDS, kind_class
from tests.detectors.kind_exports import page, tried

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def published():
    return json.loads((DOCS / "export_kinds.json").read_text("utf-8"))


def test_the_page_is_made_of_its_numbers_and_has_every_kind(published):
    assert page(published) == (DOCS / "export_kinds.md").read_text("utf-8")
    assert list(published["kinds"]) == list(KINDS)
    for kind, row in published["kinds"].items():
        exportable = kind_class(kind).info.exportable
        assert ("refused" not in row) == (exportable is True)
        assert row.get("refused", True) == exportable


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_written_and_read_again_or_refused(kind, published):
    pytest.importorskip("onnxscript", reason="ONNX is optional: requirements-dev.txt")
    found = tried(kind, ["pt2", "onnx"])
    known = published["kinds"][kind]
    if "refused" in known:
        assert found == known
    else:
        assert max(found.values()) < 1e-4

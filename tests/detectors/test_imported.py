"""One's own detector by its name, from the working directory."""

from __future__ import annotations

import sys

import pytest
import torch
from making import line_of

from atd.detectors.external import External
from atd.detectors.imported import import_detector
from atd.errors import UserError
from atd.evaluation.candidates import load_candidates

CODE = """
import torch
import atd

network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))

def make_detector():
    return atd.External(network, image_size=8, channels=3)

def make_module():
    return network

def wrong():
    return 7

def fails():
    raise OSError("no weights")

def columns():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))

ready = make_detector()
number = 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "my_own_detector.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("my_own_detector", None)


@pytest.mark.parametrize("name", ["make_detector", "ready"])
def test_a_detector_is_taken_as_it_is(name):
    found = import_detector(f"import:my_own_detector:{name}")
    assert isinstance(found, External)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert found.score(torch.rand(3, 3, 8, 8)).shape == (3,)


@pytest.mark.parametrize("name", ["make_module", "network"])
def test_a_module_needs_to_be_told_what_images_it_takes(name):
    words = f"import:my_own_detector:{name}"
    with pytest.raises(UserError, match=r"atd\.External\(module.* data\.image_size") as error:
        import_detector(words)
    line_of(error)
    found = import_detector(words, image_size=8, channels=3)
    assert found.config.name == name
    assert found.score(torch.rand(3, 3, 8, 8)).shape == (3,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_own_detector:wrong", "gives a int"),
        ("my_own_detector:fails", "no weights"),
        ("my_own_detector:columns", "(1, 2)"),
        ("my_own_detector:number", "not callable"),
        ("my_own_detector:make_detektor", "make_detector"),
        ("my_own_detektor:make", "my_own_detektor"),
        ("my_own_detector", "MODULE:CALLABLE"),
        ("../x:make", "MODULE:CALLABLE"),
        ("", "MODULE:CALLABLE"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(name, words):
    with pytest.raises(UserError) as error:
        import_detector(f"import:{name}", image_size=8, channels=3)
    assert words in line_of(error)


def test_it_is_judged_like_any_other():
    found = load_candidates(["import:my_own_detector:make_detector"], [])
    assert list(found.paths.values()) == ["import:my_own_detector:make_detector"]
    assert isinstance(found.first, External)

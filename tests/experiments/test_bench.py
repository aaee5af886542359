"""What a detector is fitted to, and evaluations of several detectors as one row."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atd.config import load
from atd.data.evaluation_sets import EvaluationSets
from atd.data.images import HeldPixels, ImageSet
from atd.errors import UserError
from atd.evaluation.checks import TRUSTED, Check
from atd.experiments.bench import fitting_sets, summary
from atd.experiments.variants import variant
from atd.metrics import CONDITIONS, METRICS


def images(name, value, count=10):
    pixels = torch.full((count, 1, 8, 8), value, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(count)
    return ImageSet.of(name, HeldPixels(pixels, name))


@pytest.fixture
def sets():
    ood = {name: images(name, value) for name, value in (("a", 100), ("b", 150), ("near", 200))}
    roles = {"a": "far", "b": "far", "near": "near"}
    return EvaluationSets(id_test=images("id", 50), ood_test=ood, roles=roles)


@pytest.fixture
def config(tiny_yaml):
    return lambda *words: load(tiny_yaml, ["evaluate.limit=4", *words])


def test_left_out_is_what_is_judged(sets, config):
    row = variant("confounding_gradients:leave_one_out")
    found = dict(fitting_sets(row.fitted_to, sets, config()))
    greys = {name: given.fetch(range(10))[:, 0, 1, 1].unique() for name, given in found.items()}
    assert {name: grey.tolist() for name, grey in greys.items()} == {"a": [150], "b": [100]}


def test_the_anomaly_itself_gives_only_images_that_are_not_judged(sets, config):
    row = variant("confounding_gradients:anomaly")
    limited = sets.limited(4, config().run.seed)
    for name, given in fitting_sets(row.fitted_to, sets, config()):
        judged = set(limited.ood_test[name].rows.tolist())
        assert len(given) == 6
        assert not judged & set(given.rows.tolist())


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("anomaly", "evaluate.limit=0", "evaluate.limit=0: all images of a are judged"),
        ("leave_one_out", "evaluate.limit=4", "a is the only far set"),
    ],
)
def test_nothing_to_fit_to_is_one_line(sets, config, name, words, message):
    if name == "leave_one_out":
        sets = dataclasses.replace(sets, ood_test={"a": sets.ood_test["a"]})
    row = variant(f"confounding_gradients:{name}")
    with pytest.raises(UserError, match=message):
        list(fitting_sets(row.fitted_to, sets, config(words)))


def evaluation(name, auroc, **checks):
    """An evaluation of two ID and two OOD images that an attack exchanges."""
    metrics = {condition: dict.fromkeys(METRICS, auroc) for condition in CONDITIONS}
    results = SimpleNamespace(
        mean=metrics,
        mean_over=(name,),
        id=SimpleNamespace(images=2),
        attack="pgd",
        checks={check: Check(passed, 0.0, "") for check, passed in checks.items()},
    )
    low, high = np.array([0.0, 1.0]), np.array([2.0, 3.0])
    inside = SimpleNamespace(clean=low, attacked=high)
    return SimpleNamespace(
        results=results, id_test=inside, ood={name: SimpleNamespace(clean=high, attacked=low)}
    )


def test_evaluations_of_a_row_become_one():
    found = summary([evaluation("a", 0.5, steps=True), evaluation("b", 0.7, steps=False)])
    assert found["mean"]["both"]["auroc"] == pytest.approx(0.6)
    assert found["mean_over"] == ["a", "b"]
    assert found["verdict"] == "suspicious: steps"
    assert found["intervals"]["clean"] == [1, 1]
    assert found["intervals"]["both"] == [0, 0]
    assert 0 <= found["intervals"]["in"][0] < 0.5 < found["intervals"]["in"][1] <= 1
    assert summary([evaluation("a", 0.5, steps=True)])["verdict"] == TRUSTED

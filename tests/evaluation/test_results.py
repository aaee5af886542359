from __future__ import annotations

import json

import pytest

from atd.errors import UserError
from atd.evaluation.protocol import evaluate
from atd.evaluation.results import Results, read_results


@pytest.fixture(scope="module")
def found():
    from toys import TIER, Brightness, ToySplits, grey

    from atd.evaluation.settings import Settings

    sets = ToySplits(
        id_val=grey("dark", 60, 100, 40, seed=1),
        id_test=grey("dark", 60, 100, 30, seed=2),
        ood_test={"bright": grey("bright", 90, 130, 25, seed=3)},
        roles={"bright": "far"},
    )
    settings = Settings(tier=TIER, epsilon=8 / 255, progress=False)
    others = {"same": Brightness()}
    return evaluate(Brightness(), sets, settings, name="toy", baselines=others).results


def test_results_read_back_equal(found, tmp_path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(found.to_json()))
    assert read_results(file) == found
    assert read_results(file).to_json() == found.to_json()


def test_results_of_older_versions_are_read(found) -> None:
    """They name no kind, give only means of baselines, and have no curves and nothing left out."""
    old = found.to_json()
    for key in ("stronger", "left_out", "curves", "strongest", "mean_over", "protocol"):
        old.pop(key)
    del old["detector"]["kind"], old["attack"]["passes"], old["attack"]["draws"]
    old["baselines"] = {"msp": old["baselines"]["same"]["mean"]}
    read = Results.from_json(old)
    assert read.detector.kind == "atd"
    assert read.mean_over == ("bright",)
    assert read.baselines["msp"].mean == found.mean
    assert read.datasets == found.datasets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old: old.pop("mean"), "mean: missing"),
        (lambda old: old["attack"].update(epsilon="8"), "attack.epsilon: it must be a finite"),
        (lambda old: old["datasets"].update(x=3), "datasets.x"),
        (lambda old: old.update(schema=2), "schema: 2 is unknown"),
        (lambda old: old["attack"].update(members={"pgd": 1}), "attack.members: it must be a list"),
        (lambda old: old["threshold"].update(value=True), "threshold.value"),
    ],
)
def test_damage_is_one_line_that_names_the_key(found, tmp_path, change, message) -> None:
    old = found.to_json()
    change(old)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(old))
    with pytest.raises(UserError, match=message):
        read_results(file)

"""Several processes that go on with a run of a budget do as the first one decides."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from toys import Convolutional

from atd.config import load, to_yaml
from atd.files import write_text
from atd.pipeline import Run, _settle_atd, _settle_evaluation
from atd.run_folder import RunFolder


def settle(processes, config):
    """What each settles; all but the first believe that no time is left."""
    run = Run(config, processes)
    run.clock.before = 0.0 if processes.is_main else 1e6
    splits = SimpleNamespace(id_test=range(2000), ood_test={"any": range(2000)})
    _settle_atd(run)
    _settle_evaluation(run, Convolutional(), splits)
    return run.config.atd.min_steps, run.config.evaluate


@pytest.mark.dist
def test_one_clock_counts(pool, tiny_yaml, tmp_path):
    folder = RunFolder(tmp_path / "run")
    words = [f"run.dir={folder.path}", "run.budget=30m", "atd.min_steps=1000"]
    config = load(tiny_yaml, words)
    write_text(folder.config, to_yaml(config))
    write_text(folder.state / "helper.safetensors", "")
    first, second = pool(settle, config)
    assert first == second
    steps, evaluate = first
    assert steps == 1000
    assert evaluate.limit > 25
    assert evaluate.baselines == ["msp"]
    again = pool(settle, config)
    assert again == [first, first]

"""What a run chooses for itself is chosen once, at its first start."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from atd.clock import Clock
from atd.commands import train
from atd.config import load, to_yaml
from atd.data.sides import sized
from atd.errors import UserError
from atd.files import write_text
from atd.pipeline import Run
from atd.planning import settling
from atd.planning.budget import plan_time
from atd.planning.pace import Counts, Pace
from atd.planning.recall import recalled
from atd.planning.settling import settled
from atd.run_folder import RunFolder
from atd.training.processes import Processes


@pytest.fixture
def make(tiny_yaml, tmp_path):
    return lambda *overrides: load(tiny_yaml, [f"run.dir={tmp_path / 'run'}", *overrides])


@pytest.fixture
def pictures(tmp_path):
    """A folder of images, most of them with a shorter side of a given length."""

    def folder(side):
        for index in range(9):
            shape = (side, side + 5, 3) if index else (200, 200, 3)
            for name in ("a", "b"):
                file = tmp_path / "id" / name / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full(shape, 9 * index, np.uint8)).save(file)
        return f"folder:{tmp_path / 'id'}"

    return folder


def begun(config):
    """Leaves what a run with these options leaves that has trained a little."""
    folder = RunFolder(config.run.folder)
    folder.path.mkdir()
    folder.claim(config)
    write_text(folder.state / "helper.safetensors", "")


@pytest.fixture
def slow_machine(monkeypatch):
    """A pace at which six minutes are enough for 60 steps of each training of the tiny config."""
    steps = {"helper": 0.01, "pretrain": 0.05, "atd": 0.1}
    counts = Counts(train=72, held=8, tests=(20, 20))
    pace = Pace(steps, dict.fromkeys(steps, 0.0), 1e-4, 1.0, True, counts)
    monkeypatch.setattr(settling, "plan_time", lambda config: plan_time(config, lambda _: pace))


@pytest.mark.parametrize(("side", "chosen"), [(4, 8), (28, 28), (32, 32), (160, 32)])
def test_small_images_stay_as_they_are(make, pictures, side, chosen):
    data = make(f"data.id={pictures(side)}", "data.image_size=auto").data
    assert data.image_size == 0
    assert sized(data).image_size == chosen
    assert sized(dataclasses.replace(data, image_size=48)).image_size == 48


def test_what_names_everything_is_left_alone(make):
    config = make()
    assert settled(config).config is config
    assert recalled(config) is None


def test_automatic_sizes_are_told_with_their_cost(make, pictures):
    config = make(f"data.id={pictures(40)}", "data.image_size=auto", "backbone.width=auto")
    plan = settled(config)
    assert (plan.config.data.image_size, plan.config.backbone.width) == (32, 16)
    (line,) = plan.reasons
    assert line.startswith("images of 32 x 32 pixels, width 16, stem of stride 2")


def test_the_network_of_given_weights_is_told_and_comes_back(make, pictures, tiny_run):
    given = f"backbone.weights={tiny_run.folder / 'detector'}"
    auto = ["backbone.width=auto", "backbone.stem_stride=0", "data.image_size=auto"]
    config = make(f"data.id={pictures(40)}", given, *auto)
    plan = settled(config)
    width = tiny_run.config.backbone.width
    assert plan.config.backbone.width == width
    assert f"width {width}" in plan.reasons[0]
    assert plan.reasons[0].endswith("as given")
    begun(plan.config)
    assert settled(config).config == plan.config


def test_what_was_chosen_comes_back_and_nothing_is_timed_again(make, slow_machine, monkeypatch):
    config = make("run.budget=30m", "backbone.width=auto")
    plan = settled(config)
    chosen = dataclasses.replace(
        plan.config, evaluate=dataclasses.replace(plan.config.evaluate, limit=77)
    )
    begun(chosen)
    monkeypatch.setattr(settling, "plan_time", None)
    assert settled(config).config == recalled(config) == chosen
    assert settled(chosen).config == chosen
    assert recalled(make("run.budget=40m", "backbone.width=auto")) is None
    assert recalled(make("run.budget=30m", "backbone.width=8")).backbone.width == 8


def test_what_was_chosen_for_other_images_is_chosen_again(make, pictures, tmp_path):
    """Someone stops a run that has trained nothing yet, for its folder was the wrong one."""
    auto = ["data.image_size=auto", "backbone.width=auto", "backbone.stem_stride=0"]
    wrong = settled(make(f"data.id={pictures(40)}", *auto)).config
    folder = RunFolder(wrong.run.folder)
    folder.path.mkdir()
    folder.claim(wrong)
    right = make(f"data.id={pictures(20)}", *auto)
    assert recalled(right) is None
    assert (wrong.data.image_size, settled(right).config.data.image_size) == (32, 20)
    write_text(folder.state / "pretrain.safetensors", "")
    assert recalled(right).data.image_size == 32


def test_the_command_leaves_what_was_asked_for_to_the_run(
    make, tiny_yaml, slow_machine, monkeypatch, capsys
):
    """A plan without time for baselines is not what was asked for."""

    def run(config, _):
        raise UserError(f"baselines {config.evaluate.baselines}")

    words = ["run.budget=30m", "evaluate.baselines=[msp,energy]"]
    config = settled(make(*words)).config
    poorer = dataclasses.replace(config.evaluate, baselines=[])
    begun(dataclasses.replace(config, evaluate=poorer))
    monkeypatch.setattr("atd.pipeline.Run", run)
    words += ["--config", str(tiny_yaml), f"run.dir={config.run.dir}"]
    monkeypatch.setattr("sys.argv", ["train.py", *words])
    with pytest.raises(SystemExit):
        train.main()
    assert "baselines ['msp', 'energy']" in capsys.readouterr().err


def test_one_process_plans(make, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="plans for one process"):
        settled(make("run.budget=30m"))


def test_a_damaged_config_is_named(make):
    folder = RunFolder(make().run.folder)
    folder.path.mkdir()
    write_text(folder.config, "\0")
    with pytest.raises(UserError, match=r"config\.yaml"):
        recalled(make("run.budget=30m"))


@pytest.mark.slow
def test_a_run_that_stops_and_goes_on_ends_with_the_same_weights(make, tmp_path, slow_machine):
    def end(name, *stops):
        config = make("run.budget=6m", "atd.generator=none", f"run.dir={tmp_path / name}")
        for stop in stops:
            run = Run(config, Processes("cpu")).until(stop)
        return run

    whole, parts = end("whole", "fit"), end("parts", "helper", "pretrain", "fit")
    ours, theirs = whole.detector.state_dict(), parts.detector.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.config.atd.min_steps == parts.config.atd.min_steps == 60
    assert whole.reasons
    assert not parts.reasons


@pytest.mark.slow
@pytest.mark.parametrize(("left", "limit"), [(1e6, 1000), (0.0, 25)])
def test_the_evaluation_gets_what_is_left_and_keeps_it(
    make, tiny_run, slow_machine, monkeypatch, left, limit
):
    def judge(detectors, sets, settings, config, **_):
        raise UserError(f"{config.evaluate.limit}")

    config = make("run.budget=6m")
    run = Run(config, Processes("cpu"))
    run.folder.path.mkdir()
    shutil.copytree(tiny_run.folder / "state", run.folder.path / "state")
    (run.folder.path / "state" / "config.yaml").unlink()
    (run.folder.path / "state" / "data.json").unlink()
    write_text(run.folder.config, to_yaml(run.config))
    monkeypatch.setattr("atd.pipeline.evaluate_detectors", judge)
    monkeypatch.setattr(Clock, "spent", property(lambda _: 360 - left))
    with pytest.raises(UserError, match=f"^{limit}$"):
        run.until("report")
    monkeypatch.setattr(Clock, "spent", property(lambda _: 100.0))
    again = Run(config, Processes("cpu"))
    assert again.config.evaluate.limit == limit
    with pytest.raises(UserError, match=f"^{limit}$"):
        again.until("report")

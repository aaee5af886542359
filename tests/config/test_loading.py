"""Options: overrides, fractions, recipes, and one clear line for every mistake."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from atd.config import Config, config_hash, find_config, load, restore, to_yaml
from atd.errors import UserError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_shipped_configs_are_few() -> None:
    assert 4 <= len(CONFIGS) <= 10


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config), encoding="utf-8")
    assert load(copy) == config
    assert config_hash(load(copy)) == config_hash(config)
    assert restore(dataclasses.asdict(config), "stored") == config


def test_default_is_the_digits_config() -> None:
    assert find_config(None).name == "digits.yaml"
    assert load(None).data.id == "bundled:digits"


def test_overrides_win_and_fractions_are_read() -> None:
    config = load(None, ["atd.epsilon=8/255", "data.ood_test=[a,b=folder:x]", "run.seed=3"])
    assert config.atd.epsilon == 8 / 255
    assert config.data.ood_test == ["a", "b=folder:x"]
    assert config.run.seed == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("atd.epsilonn=3", ["atd.epsilonn", "did you mean atd.epsilon?"]),
        ("epochs=3", ["epochs", "did you mean"]),
        ("atd.epsilon=30", ["atd.epsilon=30", "between 0 and 1"]),
        ("atd.epsilon=-0.1", ["atd.epsilon=-0.1", "between 0 and 1"]),
        ("atd.epsilon=nan", ["atd.epsilon"]),
        ("atd.steps=0", ["atd.steps=0", "from 1 to 1000"]),
        ("atd.epochs=1.5", ["atd.epochs", "1.5"]),
        ("atd.generator=magic", ["atd.generator", "trained", "frozen", "none"]),
        ("pretrain.steps=many", ["pretrain.steps", "many"]),
        ("data.image_size=4", ["data.image_size=4", "8 to 512"]),
        ("data.channels=2", ["data.channels=2", "1 or 3"]),
        ("backbone.architecture=vgg", ["backbone.architecture=vgg", "preact_resnet18"]),
        ("run.name=a/b", ["run.name=a/b"]),
        ("run.timeout_minutes=0", ["run.timeout_minutes=0", "above 0"]),
        ("atd", ["key=value"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(None, [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_config_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml.*cifar10.*digits"):
        load("nowhere.yaml")


def test_broken_yaml_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("atd: {epochs: [", encoding="utf-8")
    with pytest.raises(UserError, match="broken.yaml"):
        load(file)
    file.write_text("- 1\n- 2\n", encoding="utf-8")
    with pytest.raises(UserError, match="broken.yaml"):
        load(file)


def test_recipe_paper_yields_to_what_was_said_explicitly(tmp_path: Path) -> None:
    assert load(None, ["recipe=paper"]).backbone.features == "last"
    assert load(None, ["recipe=paper"]).atd.normalisation == "batch"
    assert load(None, ["recipe=paper", "backbone.features=multi"]).backbone.features == "multi"
    file = tmp_path / "own.yaml"
    file.write_text("recipe: paper\natd: {normalisation: none}\n", encoding="utf-8")
    assert load(file).atd.normalisation == "none"
    assert load(file).atd.generator_objective == "deceive"


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(None).atd.epochs = 3  # type: ignore[misc]


def test_evaluation_epsilon_follows_training_unless_given() -> None:
    assert load(None, ["atd.epsilon=0.05"]).evaluation_epsilon == 0.05
    assert load(None, ["evaluate.epsilon=0"]).evaluation_epsilon == 0.0


@given(epsilon=st.floats(0, 1), steps=st.integers(1, 1000), seed=st.integers(0, 2**31 - 1))
def test_every_valid_value_survives_yaml(epsilon: float, steps: int, seed: int) -> None:
    config = load(None, [f"atd.epsilon={epsilon!r}", f"atd.steps={steps}", f"run.seed={seed}"])
    stored = yaml.safe_load(to_yaml(config))
    assert restore(stored, "stored") == config
    assert config.atd.epsilon == epsilon


def test_keys_change_only_on_purpose() -> None:
    """Every new option is a promise: extend this list when one is worth it."""
    groups = {item.name: item.default_factory for item in dataclasses.fields(Config)}
    names = {
        group: [option.name for option in dataclasses.fields(factory)]
        for group, factory in groups.items()
        if dataclasses.is_dataclass(factory)
    }
    assert {group: len(options) for group, options in names.items()} == {
        "run": 12,
        "data": 18,
        "backbone": 7,
        "pretrain": 19,
        "atd": 21,
        "evaluate": 8,
        "loader": 2,
    }

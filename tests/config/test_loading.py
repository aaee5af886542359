"""Options: overrides, fractions, recipes, and one clear line for every mistake."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from atd.config import Config, config_hash, find_config, load, restore, to_yaml
from atd.config.values import known_keys
from atd.config.yaml_text import parse_yaml
from atd.errors import UserError

NAMES = {
    "": "recipe",
    "run": "name dir seed device budget threads deterministic precision compile device_batch keep "
    "save_minutes timeout_minutes rank_logs",
    "data": "id id_test outliers ood_val ood_test near_test protocol openood image_size channels "
    "root id_limit outlier_limit ood_limit val_fraction test_fraction scale "
    "skip_corrupt augment",
    "backbone": "architecture width activation stem_stride features standardise weights mean std "
    "outlier_class denoising",
    "detector": "kind",
    "pretrain": "objective epochs helper_epochs min_steps helper_min_steps batch_size ghost_batch "
    "epsilon attack steps step_schedule step_size beta gamma helper_reach outlier_weight "
    "mining_pool mining_quantile optimizer lr momentum weight_decay warmup label_smoothing ema",
    "atd": "epochs min_steps batch_size alpha epsilon steps step_schedule step_size attack_start "
    "adversarial attack_generated features finetune finetune_lr generator generator_objective "
    "generator_diversity ema latent_dim normalisation batch_statistics lr_discriminator "
    "lr_generator as_released",
    "evaluate": "tier norm epsilon steps restarts limit batch_size baselines "
    "certify certify_sigma certify_draws certify_radii certify_confidence",
    "loader": "workers memory_mb",
}

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
        ("atd.epsilon=30", ["atd.epsilon=30", "from 0 to 1 on the [0, 1] pixel scale"]),
        ("atd.epsilon=-0.1", ["atd.epsilon=-0.1", "from 0 to 1"]),
        ("atd.epsilon=nan", ["atd.epsilon"]),
        ("atd.steps=0", ["atd.steps=0", "from 1 to 1000"]),
        ("atd.epochs=1.5", ["atd.epochs", "1.5"]),
        ("atd.generator=magic", ["atd.generator", "trained", "frozen", "none"]),
        ("pretrain.steps=many", ["pretrain.steps", "many"]),
        ("data.image_size=4", ["data.image_size=4", "8 to 512"]),
        ("data.channels=2", ["data.channels=2", "1, 3"]),
        ("backbone.architecture=vgg", ["backbone.architecture=vgg", "preact_resnet18"]),
        ("run.name=a/b", ["run.name=a/b"]),
        ("run.name=..", ["run.name=.."]),
        ("run.name=" + "a" * 300, ["run.name=aaa"]),
        ("run.keep=100000000", ["run.keep=100000000", "from 1 to 100"]),
        ("pretrain.momentum=-0.5", ["pretrain.momentum=-0.5", "from 0 to below 1"]),
        ("pretrain.lr=inf", ["pretrain.lr=inf", "a number"]),
        ("pretrain.lr=1e999", ["pretrain.lr", "above 0 and at most 1000"]),
        ("pretrain.beta=1/0", ["pretrain.beta=1/0", "a number"]),
        ("atd.latent_dim=10**13", ["atd.latent_dim=10**13", "a whole number"]),
        ("atd.latent_dim=10000000000000", ["atd.latent_dim", "from 1 to 10000"]),
        ("atd.steps=1_0", ["atd.steps=1_0", "a whole number"]),
        ("atd.steps=٣", ["atd.steps", "a whole number"]),
        ("atd.steps=" + "9" * 5000, ["atd.steps", "a whole number"]),
        ("atd.epochs=", ["atd.epochs", "a whole number"]),
        ("atd.finetune=maybe", ["atd.finetune=maybe", "true or false"]),
        ("evaluate.epsilon=-0.5", ["evaluate.epsilon=-0.5", "between 0 and 1"]),
        ("pretrain.ghost_batch=1", ["pretrain.ghost_batch=1", "at least 2"]),
        ("data.ood_test=a,,b", ["data.ood_test", "empty"]),
        ("data.id=", ["data.id", "a source"]),
        ("run=5", ["run", "a group of options", "run.name="]),
        ("data.id=a\0b", ["data.id", "NUL"]),
        (".".join(["a"] * 2001) + "=1", ["command line", "unknown key"]),
        ("=1", ["key=value"]),
        ("a" * 100_000 + "=1", ["command line", "unknown key"]),
        ("run.timeout_minutes=0", ["run.timeout_minutes=0", "above 0"]),
        ("atd", ["key=value"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(None, [override])
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    assert "yaml" not in message.lower()
    for word in words:
        assert word in message


WORDS = [
    "folder:batch #2",
    "007",
    "no",
    "null",
    "1e3",
    "~",
    "a: b",
    "{a: 1}",
    "[a]",
    "'quoted'",
    '"quoted"',
    "&anchor",
    "*alias",
    "!tag",
    "@x `y` %z",
    "  two  blanks  ",
    "folder:Grüße/写真",
    "bytes \udcff\udc80",
    "line\nbreak\ttab",
    "${oc.env:HOME}",
    "${run.name}",
    "a=b=c",
    "x\x85y\u2028z\ufeff",
]


@pytest.mark.parametrize("word", WORDS)
def test_words_are_taken_as_written(word: str, tmp_path: Path) -> None:
    config = load(None, [f"data.id={word}", f"data.ood_test=[n={word.strip()},b]"])
    assert config.data.id == word
    assert config.data.ood_test == [f"n={word.strip()}", "b"]
    file = tmp_path / "copy.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    assert load(file) == config
    assert restore(json.loads(json.dumps(dataclasses.asdict(config))), "stored") == config


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_any_text_survives_the_command_line_and_the_file(word: str) -> None:
    config = load(None, [f"data.id={word}"])
    assert config.data.id == word
    assert restore(parse_yaml(to_yaml(config).encode("utf-8")), "stored") == config


def test_a_name_of_digits_stays_text(tmp_path: Path) -> None:
    assert load(None, ["run.name=007", "run.seed=007"]).run.name == "007"
    file = tmp_path / "own.yaml"
    file.write_text("run: {name: 007, dir: no}\ndata: {id: 1e5, ood_test: [010, on, null]}\n")
    config = load(file)
    assert (config.run.name, config.run.dir, config.data.id) == ("007", "no", "1e5")
    assert config.data.ood_test == ["010", "on", "null"]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("[]", []),
        ("[ ]", []),
        ("a", ["a"]),
        ("[a, b]", ["a", "b"]),
        ("a=folder:x y,b=folder:z #1", ["a=folder:x y", "b=folder:z #1"]),
        (r"folder:one\,two,b", ["folder:one,two", "b"]),
        ("[[x],[y]]", ["[x]", "[y]"]),
        ("{}", ["{}"]),
    ],
)
def test_a_list_is_words_between_commas(text: str, items: list[str], tmp_path: Path) -> None:
    assert load(None, [f"data.ood_test={text}"]).data.ood_test == items
    assert restore({"data": {"ood_test": text}}, "stored").data.ood_test == items


def test_an_old_record_may_hold_a_retired_option() -> None:
    stored = dataclasses.asdict(Config()) | {"atd": {"generator_target": 0.25, "epochs": 3}}
    assert restore(stored, "stored").atd.epochs == 3
    with pytest.raises(UserError, match="unknown key"):
        load(None, ["atd.generator_target=0.25"])


@pytest.mark.parametrize(
    "stored",
    [
        {"atd": {"epochs": 10**400}},
        {"atd": {"epochs": True}},
        {"atd": {"epochs": None}},
        {"atd": {"epsilon": float("nan")}},
        {"atd": {"epsilon": 10**400}},
        {"atd": {"steps": 2.0}},
        {"atd": {"finetune": 2}},
        {"atd": [1]},
        {"atd": 3},
        {"data": {"id": 3}},
        {"data": {"ood_test": {}}},
        {"data": {"ood_test": [["a"]]}},
        {"recipe": []},
        {"": {"": 1}},
        {"nothing": {"a": {"b": {}}}},
    ],
)
def test_a_damaged_record_is_one_line_that_names_it(stored: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"^config\.json: \S") as caught:
        restore(stored, "config.json")
    assert len(str(caught.value)) < 300


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
    assert load(file, ["recipe=default"]).atd.generator_objective == "imitate"


def test_recipe_opengan_is_attacked_nowhere() -> None:
    config = load(None, ["recipe=opengan"])
    assert config.pretrain.objective == "standard"
    assert not config.atd.adversarial
    assert not config.atd.batch_statistics
    assert load(None, ["recipe=opengan", "atd.batch_statistics=true"]).atd.batch_statistics
    with pytest.raises(UserError, match="atd.batch_statistics=true.*atd.normalisation=batch"):
        load(None, ["atd.batch_statistics=true"])


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
    found: dict[str, list[str]] = {}
    for key in known_keys(Config):
        group, _, option = key.rpartition(".")
        found.setdefault(group, []).append(option)
    assert {group: " ".join(options) for group, options in found.items()} == NAMES


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0),
        ("30m", 1800),
        ("2h", 7200),
        ("1.5h", 5400),
        ("90s", 90),
        ("1800", 1800),
        ("5 m", 300),
    ],
)
def test_a_budget_is_a_length_of_time(text: str, seconds: float) -> None:
    assert load(None, [f"run.budget={text}"]).run.seconds == seconds


@pytest.mark.parametrize("text", ["0", "0m", "-5m", "30 minutes", "m", "1e3", "30M", "nan"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"command line: run\.budget=.* such as 90s, 30m or 2h"):
        load(None, [f"run.budget={text}"])


def test_sizes_may_be_automatic_and_nothing_else() -> None:
    config = load(None, ["data.image_size=auto", "backbone.width=auto"])
    assert (config.data.image_size, config.backbone.width) == (0, 0)
    assert restore(yaml.safe_load(to_yaml(config)), "stored") == config
    for word in ("atd.epochs=auto", "data.image_size=7", "backbone.width=automatic"):
        with pytest.raises(UserError):
            load(None, [word])

"""The paper's tables: what is in them, what is quoted beside them; all of them at smoke scale."""

from __future__ import annotations

import dataclasses
import json

import pytest

from atd.commands import reproduce
from atd.errors import UserError
from atd.experiments import tables
from atd.experiments.methods import ABLATIONS, ATOM, COMPARED, PAPER
from atd.experiments.order import Order
from atd.experiments.setting import Setting
from atd.experiments.tables import TABLE1, TABLE3, agrees, reproduce_table3
from atd.experiments.workshop import Workshop

PAPERS = Setting("configs/paper.yaml", "paper")
DIGITS = Setting("configs/digits.yaml", "smoke", ("data.ood_test=bundled:lowercase",))
METHODS = {**COMPARED, **ABLATIONS, **ATOM}


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_every_method_has_options_that_exist(scale, tmp_path):
    shop = Workshop(dataclasses.replace(PAPERS, scale=scale), tmp_path)
    folders = {}
    for name, method in METHODS.items():
        config = shop.config(method, 0)
        assert config.detector_kind == method.kind
        if method.kind == "atd":
            assert bool(config.backbone.weights) == (config.atd.features == "backbone"), name
            folders.setdefault(config.run.dir, set()).add((method.training, method.options))
    assert all(len(made) == 1 for made in folders.values())


def test_at_scale_paper_the_options_are_those_of_the_papers_text(tmp_path):
    config = Workshop(PAPERS, tmp_path).config(PAPER, 0)
    atd, data = config.atd, config.data
    assert (atd.epochs, atd.alpha, atd.lr_discriminator, atd.lr_generator) == (20, 0.5, 1e-4, 1e-4)
    assert (atd.epsilon, config.pretrain.epsilon) == (8 / 255, 8 / 255)
    assert (atd.generator, atd.generator_objective, atd.attack_generated) == (
        "trained",
        "deceive",
        False,
    )
    assert (data.id, data.outliers, data.ood_val) == ("cifar10", "food101", "svhn")
    assert config.evaluate.tier == "paper"


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        ((), True),
        (("data.id=cifar100",), True),
        (("data.id=svhn",), False),
        (("data.outliers=bundled:fallback",), False),
        (("data.protocol=openood",), False),
        (("atd.epsilon=2/255",), False),
        (("evaluate.epsilon=4/255",), False),
        (("data.id_limit=100",), False),
        (("evaluate.norm=l2", "evaluate.epsilon=8/255"), False),
    ],
)
def test_the_paper_is_quoted_only_where_data_and_attack_are_its_own(words, quoted, tmp_path):
    shop = Workshop(dataclasses.replace(PAPERS, overrides=words), tmp_path)
    assert agrees(shop.config(PAPER, 0)) == quoted


def test_the_digits_are_never_compared_with_the_paper(tmp_path):
    for scale in ("smoke", "small", "paper"):
        config = Workshop(Setting("configs/digits.yaml", scale), tmp_path).config(PAPER, 0)
        assert not agrees(config)


@pytest.fixture
def made(monkeypatch):
    """Methods that were asked for; none is measured, and AT (MD) is refused."""
    asked = []

    def measured(shop, method, config):
        asked.append((config.data.id, method.training, method.kind, method.options))
        if (method.training, method.kind) == ("adversarial", "mahalanobis"):
            raise UserError("it cannot be fitted")
        found = {"clean": 0.9, "in": 0.8, "out": 0.7, "both": 0.6}
        told = {"id_name": "x", "images": 5, "mean_over": ["far"], "verdict": "v"}
        return {**told, "paper_attack": "p", "stronger_attack": "s", "plain": found} | {
            "stronger": dict.fromkeys(found, 0.5)
        }

    monkeypatch.setattr(tables, "_measured", measured)
    monkeypatch.setattr(Workshop, "prepare", lambda self, method, seed: None)
    return asked


def order(setting, tmp_path):
    return Order(setting=setting, seeds=(0,), output=tmp_path / "table.md", work=tmp_path)


def test_table_1_has_both_id_sets_and_the_papers_numbers_beside(made, tmp_path):
    some = {name: COMPARED[name] for name in ("HAT (MD)", "AT (MD)")}
    shown = dataclasses.replace(TABLE1, rows=tuple(some))
    tables._reproduce(order(PAPERS, tmp_path), some, shown)
    assert {data for data, *_ in made} == {"cifar10", "cifar100"}
    assert len(made) == 4
    text = (tmp_path / "table.md").read_text()
    assert "| HAT (MD) | 1 | 90.0 | 80.0 | 70.0 | 60.0 | 50.0 | 50.0 | 50.0 | v " in text
    assert "| 81.0 / 58.7 / 60.3 / 36.3 |" in text
    assert "refused: it cannot be fitted" in text
    assert "Not measured yet" not in text
    tables._reproduce(order(PAPERS, tmp_path), some, shown)
    assert [row[1:3] for row in made[4:]] == [("adversarial", "mahalanobis")] * 2


@pytest.mark.parametrize("config", ["digits", "cifar10", "cifar100"])
def test_no_images_are_added_to_a_config_of_other_images(config, tmp_path):
    setting = Setting(f"configs/{config}.yaml", "paper")
    assert tables._settings(order(setting, tmp_path), COMPARED) == [setting]


def test_a_part_of_a_table_says_what_it_lacks_and_quotes_nothing(made, tmp_path):
    some = dict(list(ABLATIONS.items())[:2])
    tables._reproduce(order(DIGITS, tmp_path), some, TABLE3)
    text = (tmp_path / "table.md").read_text()
    assert "**Not measured yet**: no network, generated images attacked too; no network; " in text
    assert "the paper |" not in text
    reproduce_table3(order(DIGITS, tmp_path))
    assert "Not measured yet" not in (tmp_path / "table.md").read_text()


def test_methods_of_several_tables_are_measured_once(made, tmp_path):
    for table, methods in (("table3", ABLATIONS), ("table5", ATOM)):
        output = tmp_path / f"{table}.md"
        asked = dataclasses.replace(order(DIGITS, tmp_path), output=output)
        tables._reproduce(asked, methods, TABLE3)
    assert [kind for _, _, kind, _ in made].count("outlier_class") == 1
    assert len(made) == len(ABLATIONS) + 1
    kept = [json.loads((tmp_path / f"table{n}.json").read_text()) for n in (3, 5)]
    shared = kept[0].keys() & kept[1].keys()
    assert {key.split("/")[1] for key in shared} == ATOM.keys() - {"ATOM"}
    assert all(kept[0][key] == kept[1][key] for key in shared)


def test_rows_of_another_config_are_not_taken_from_other_tables(made, tmp_path):
    first = dataclasses.replace(order(DIGITS, tmp_path), output=tmp_path / "table3.md")
    reproduce_table3(first)
    file = tmp_path / "table3.json"
    runs = json.loads(file.read_text())
    file.write_text(json.dumps({key: {**runs[key], "setting_sha256": "x"} for key in runs}))
    second = dataclasses.replace(first, output=tmp_path / "table5.md")
    tables._reproduce(second, ATOM, TABLE3)
    assert len(made) == len(ABLATIONS) + len(ATOM)


def test_damaged_rows_are_one_line(made, tmp_path):
    (tmp_path / "table.json").write_text('{"digits-smoke/x/0": {"method": 3}}')
    with pytest.raises(UserError, match="the finished rows are damaged: ") as caught:
        reproduce_table3(order(DIGITS, tmp_path))
    assert "\n" not in str(caught.value)


def test_images_that_are_not_there_are_said_once_and_no_row(tmp_path):
    elsewhere = dataclasses.replace(PAPERS, overrides=(f"data.root={tmp_path}",))
    with pytest.raises(UserError, match="data.protocol=paper: no images in .*tiny_imagenet"):
        reproduce_table3(order(elsewhere, tmp_path))
    assert not (tmp_path / "table.json").exists()


@pytest.mark.slow
def test_every_table_runs_at_smoke_scale(tmp_path):
    """About 80 seconds of one core together, since networks are shared."""
    lines = {"table1": 29, "table2": 16, "table3": 7, "table4": 15, "table5": 4}
    for what, count in lines.items():
        reproduce.main([what, "--scale", "smoke", "--work", str(tmp_path), *DIGITS.overrides])
        text = (tmp_path / f"{what}.md").read_text()
        rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
        assert len(rows) == count, what
        assert "refused" not in text
        assert "Not measured yet" not in text
        assert "* " in text.partition("## Where the numbers come from")[2]
        runs = json.loads((tmp_path / f"{what}.json").read_text())
        assert all(run["provenance"]["commit"] for run in runs.values())
        for run in runs.values():
            _falls(what, run)


def _falls(what, run):
    """No attack on the detector helps it; every condition is attacked from the same scores."""
    match what:
        case "table2":
            for found in run["found"].values():
                for attack in found.values():
                    assert attack["both"] <= min(attack["in"], attack["out"]) + 1e-9
                    assert max(attack["in"], attack["out"]) <= attack["clean"] + 1e-9
        case "table4":
            found = run["found"]
            for strength in ("paper", "stronger"):
                assert found[f"{strength} detector"]["auroc"] <= found["clean"]["auroc"] + 1e-9
        case _:
            assert run["stronger"]["both"] <= run["plain"]["both"] + 1e-9

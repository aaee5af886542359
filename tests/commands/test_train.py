"""The training command: what a person types, reads and gets wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from atd.commands import train
from atd.planning.forecast import Expected


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
        train.main()
        return capsys.readouterr().out

    return command


def test_help_shows_examples_without_torch():
    command = [sys.executable, "-X", "importtime", "-m", "atd.commands.train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout
    assert " torch\n" not in done.stderr


def test_dry_run_prints_options_and_plan_and_writes_nothing(run, tiny_yaml, tmp_path):
    folder = tmp_path / "run"
    options = ["atd.epsilon=8/255", f"run.dir={folder}"]
    out = run("--dry-run", "--config", tiny_yaml, *options)
    assert yaml.safe_load(out)["atd"]["epsilon"] == pytest.approx(8 / 255)
    plan = [line for line in out.splitlines() if line.startswith("# ")]
    assert any("PGD-2 at epsilon 8/255" in line for line in plan)
    assert [line.split(":")[0] for line in plan if "epoch" in line] == [
        "# helper",
        "# pretrain",
        "# atd",
    ]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["atd.features=pixels"], "on pixels: no backbone"),
        (["backbone.weights=w.pt"], "loaded from w.pt"),
        (["pretrain.objective=trades"], "epochs of trades"),
        (["atd.adversarial=false"], "no attack"),
        (["data.outliers="], "offline fallback"),
    ],
)
def test_the_plan_follows_the_options(run, options, words, monkeypatch):
    monkeypatch.setattr("atd.outlook.forecast", lambda _: {"pretrain": Expected(100)})
    monkeypatch.setattr("atd.outlook.rehearse", lambda _: None)
    assert words in run("--dry-run", *options)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["atd.epsilom=8/255"], "did you mean atd.epsilon?"),
        (["atd.epsilon=2"], "atd.epsilon"),
        (["pretrain.lr=nan"], "lr"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["nonsense"], "key=value"),
    ],
)
def test_mistakes_end_in_one_line(fail, words, expected):
    assert expected in fail(*words)


def test_an_unreadable_source_ends_in_one_line(fail, tiny_yaml, tmp_path):
    options = [f"run.dir={tmp_path / 'run'}", "data.id=folder:nowhere"]
    assert "nowhere" in fail("--config", tiny_yaml, *options)


def test_without_ood_tests_nothing_is_trained(fail, tiny_yaml, tmp_path, monkeypatch):
    monkeypatch.setattr("atd.pipeline.Run.until", None)
    line = fail("--config", tiny_yaml, f"run.dir={tmp_path / 'run'}", "data.ood_test=")
    assert "data.ood_test: name at least one OOD test set" in line
    assert not (tmp_path / "run" / "detector").exists()


def test_a_finished_run_says_so_and_runs_nothing(run, tiny_run, tiny_yaml, monkeypatch):
    monkeypatch.setattr("atd.pipeline.Run", None)
    out = run("--config", tiny_yaml, f"run.dir={tiny_run.folder}")
    assert "is finished" in out
    assert str(tiny_run.folder / "report" / "report.md") in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "missing"),
        (b"", "0 of 0 lines"),
        (b'{"stage": "atd"}\n{"st\n\xff\n[]', "3 of 4 lines"),
    ],
)
def test_a_log_that_is_gone_for_good_is_told(
    run, tiny_run, tiny_yaml, tmp_path, monkeypatch, content, told
):
    folder = shutil.copytree(tiny_run.folder, tmp_path / "run")
    monkeypatch.setattr("atd.pipeline.Run", None)
    said: list[str] = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=said.append))
    run("--config", tiny_yaml, f"run.dir={folder}")
    assert not said
    (folder / "stats.jsonl").unlink()
    if content is not None:
        (folder / "stats.jsonl").write_bytes(content)
    assert "is finished" in run("--config", tiny_yaml, f"run.dir={folder}")
    assert f"{folder / 'stats.jsonl'}: {told}" in "".join(said)


def test_a_folder_of_another_run_is_refused(fail, tiny_run, tiny_yaml):
    line = fail("--config", tiny_yaml, f"run.dir={tiny_run.folder}", "run.seed=1")
    assert "run.seed" in line


def test_a_new_run_says_first_how_long_it_takes(run, tiny_yaml, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("atd.outlook.plan_of", lambda c: asked.append(c) or ["", "", "", "in all"])
    monkeypatch.setattr("atd.pipeline.Run.execute", lambda _: None)
    monkeypatch.setattr("atd.reporting.report.summary_table", lambda _: "")
    words = ["--config", tiny_yaml, f"run.dir={tmp_path / 'run'}"]
    assert run(*words).startswith("in all\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    monkeypatch.setattr("atd.run_folder.RunFolder.was_finished", lambda *_: False)
    assert "in all" not in run(*words)
    assert len(asked) == 1

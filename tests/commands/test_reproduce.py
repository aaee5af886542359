"""The command that makes tables of documents."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from atd.commands import reproduce
from atd.detectors.kinds import KINDS
from atd.experiments import detectors, speeds
from atd.experiments.setting import Setting
from atd.experiments.variants import DEFAULTS
from atd.experiments.whats import WHATS


@pytest.fixture
def run():
    return lambda *words: reproduce.main(list(map(str, words)))


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for, without measuring it."""
    found = {}

    def measure(setting, rows, seeds=(), **given):
        found.update(setting=setting, rows=rows, seeds=list(seeds), **given)

    monkeypatch.setattr(detectors, "measure_detectors", measure)
    monkeypatch.setattr(speeds, "measure_speeds", measure)
    return found


def test_small_is_the_document_with_three_seeds_and_all_kinds(run, asked, capsys):
    run("detectors", "evaluate.limit=9")
    assert asked["output"] == Path("docs/detectors.md")
    assert (asked["seeds"], asked["rows"]) == ([0, 1, 2], DEFAULTS["detectors"])
    setting = Setting("configs/digits.yaml", "small", ("evaluate.limit=9",))
    assert asked["setting"] == setting
    assert capsys.readouterr().out == "docs/detectors.md\n"


def test_smoke_stays_out_of_the_documents(run, asked, tmp_path):
    run("detectors", "--scale", "smoke", "--work", tmp_path, "--kinds", "msp, gaia_z:share@oe")
    assert asked["output"] == tmp_path / "detectors.md"
    assert (asked["seeds"], asked["rows"]) == ([0], ("msp", "gaia_z:share@oe"))


def test_objectives_are_another_page(run, asked):
    run("objectives", "--seeds", "1")
    assert (asked["what"], asked["output"]) == ("objectives", Path("docs/objectives.md"))
    assert asked["rows"] == DEFAULTS["objectives"]


def test_speeds_are_of_the_configs_own_size_unless_smoke_is_asked_for(run, asked, tmp_path):
    run("speeds")
    assert (asked["setting"].scale, asked["rows"]) == ("speed", tuple(KINDS))
    assert asked["output"] == Path("docs/speeds.md")
    run("speeds", "--scale", "smoke", "--work", tmp_path)
    assert asked["setting"].scale == "smoke"


@pytest.mark.parametrize("what", WHATS)
def test_what_is_listed_exists(what):
    module, line = WHATS[what]
    assert callable(pkgutil.resolve_name(f"atd.experiments.{module}:reproduce_{what}"))
    assert line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kinds", "mps"), "--kinds=mps: unknown; the nearest is msp"),
        (("--seeds", "0"), "--seeds 0: give at least 1"),
        (("--scale", "smoke", "evaluate.limt=3"), "evaluate.limt"),
    ],
)
def test_mistakes_are_one_line(fail, tmp_path, words, message):
    assert message in fail(
        "detectors", *words, "--work", tmp_path, "--output", tmp_path / "page.md"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["table1", "findings", "own_images", "figure4"])
def test_kinds_are_refused_where_rows_have_other_names(fail, tmp_path, what):
    message = fail(what, "--kinds", "msp", "--work", tmp_path, "--output", tmp_path / "page.md")
    assert f"--kinds: {what} has rows of its own; leave --kinds out" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["gaia_z:share", "energy@oe"])
def test_speeds_are_of_kinds_as_they_are(fail, asked, kind):
    assert f"--kinds={kind}: unknown; the nearest is " in fail("speeds", "--kinds", kind)
    assert not asked


def test_a_launcher_is_refused(fail, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "runs in one process" in fail("detectors")


def test_at_scale_paper_the_config_is_the_papers(run, asked, tmp_path):
    run("detectors", "--scale", "paper", "--output", tmp_path / "page.md")
    assert asked["setting"].config == "configs/paper.yaml"

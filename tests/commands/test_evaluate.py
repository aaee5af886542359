"""The evaluation command on the tiny run's detector."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys

import pytest

from atd.commands import evaluate
from atd.config import load
from atd.detectors.base import Detector
from atd.evaluation.candidates import load_candidates
from atd.evaluation.record import recorded_config
from atd.training import processes

pytestmark = pytest.mark.usefixtures("unrendered")

LIGHT = ("evaluate.steps=1", "evaluate.baselines=[]", "evaluate.limit=6")


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*words):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
        evaluate.main()
        return capsys.readouterr().out

    return command


def test_help_needs_no_torch():
    command = [sys.executable, "-X", "importtime", "-m", "atd.commands.evaluate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "DETECTOR" in done.stdout
    assert " torch\n" not in done.stderr


def test_a_report_is_written_where_asked(run, tiny_run, tmp_path):
    detector, output = tiny_run.folder / "detector", tmp_path / "out"
    before = (tiny_run.folder / "report" / "results.json").read_bytes()
    out = run(detector, "--output", output)
    results = json.loads((output / "results.json").read_text())
    for key in ("id", "attack", "mean_over"):
        assert results[key] == tiny_run.results[key], key
    assert results["threshold"] == pytest.approx(tiny_run.results["threshold"], abs=1e-5)
    for condition, metrics in tiny_run.results["mean"].items():
        assert results["mean"][condition] == pytest.approx(metrics, abs=0.01)
    assert (output / "report.md").is_file()
    assert "lowercase" in out
    assert str(output / "report.md") in out
    assert (tiny_run.folder / "report" / "results.json").read_bytes() == before


def test_the_command_of_a_training_repeats_its_evaluation(run, tiny_run, tmp_path):
    python, script, *words = shlex.split(tiny_run.results["provenance"]["command"])
    assert (python, script) == ("python", "evaluate.py")
    run(*words, "--output", tmp_path)
    again = json.loads((tmp_path / "results.json").read_text())
    assert again["provenance"]["command"] == tiny_run.results["provenance"]["command"]
    assert again["datasets"].keys() == tiny_run.results["datasets"].keys()
    for condition, metrics in tiny_run.results["mean"].items():
        assert again["mean"][condition] == pytest.approx(metrics, abs=0.01)
    assert again["attack"] == tiny_run.results["attack"]


def test_options_override_the_stored_ones(run, tiny_run, tmp_path):
    options = ["evaluate.limit=8", "evaluate.epsilon=0", "data.ood_test=[mine=bundled:lowercase]"]
    run(tiny_run.folder / "detector", *LIGHT, *options, "--output", tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    words = ["python", "evaluate.py", tiny_run.folder / "detector", *LIGHT, *options]
    assert results["provenance"]["command"] == shlex.join(map(str, words))
    assert results["id"]["images"] == 8
    assert results["datasets"].keys() == {"mine"}
    mine = results["datasets"]["mine"]
    assert mine["clean"]["auroc"] == pytest.approx(mine["both"]["auroc"])


@pytest.mark.parametrize(
    ("folder", "told"), [("report", "not a detector folder"), ("nowhere", "no such folder")]
)
def test_what_is_no_detector_is_refused(fail, tiny_run, folder, told):
    assert told in fail(tiny_run.folder / folder)


def test_options_that_do_not_fit_are_refused(fail, tiny_run):
    detector = tiny_run.folder / "detector"
    assert "takes 8" in fail(detector, "data.image_size=16")
    assert "did you mean evaluate.tier?" in fail(detector, "evaluate.teir=paper")
    assert "data.scale=12bit: the detector in" in fail(detector, "data.scale=12bit")


def test_a_list_longer_than_any_file_name_is_an_option(fail, tiny_run):
    sets = ",".join(f"s{number}=folder:none" for number in range(40))
    line = fail(tiny_run.folder / "detector", f"data.ood_test=[{sets}]")
    assert "folder:none" in line


def test_an_automatic_image_size_is_the_detectors(tiny_run, tiny_yaml):
    candidates = load_candidates([str(tiny_run.folder / "detector")], [])
    assert candidates.fitted(load(tiny_yaml, ["data.image_size=auto"])).data.image_size == 8


def test_its_own_record_says_whether_a_detector_has_a_classifier_to_compare_with(tiny_run):
    candidates = load_candidates([str(tiny_run.folder / "detector")], [])
    assert candidates.backbone is candidates.first.backbone
    tuned = {"atd": {"finetune": True}}
    candidates.first.config = dataclasses.replace(candidates.first.config, training=tuned)
    assert candidates.backbone is None


@pytest.mark.parametrize("word", ["detector.temperature=2", "atd.epochs=3", "recipe=paper"])
def test_options_that_would_be_ignored_are_refused(fail, tiny_run, word):
    text = fail(tiny_run.folder / "detector", word)
    assert text.startswith(f"error: {word.split('=')[0]}: an option of training")


@pytest.fixture(scope="session")
def other_run(tiny_run, tmp_path_factory):
    """The tiny detector under another name and with other weights."""
    folder = tmp_path_factory.mktemp("other") / "other"
    detector = Detector.from_pretrained(tiny_run.folder / "detector")
    detector.feature_mean += 0.1
    detector.config = dataclasses.replace(detector.config, name="other")
    detector.save_pretrained(folder / "detector")
    return folder


def test_several_detectors_are_put_side_by_side(run, tiny_run, other_run, tmp_path):
    detectors = [tiny_run.folder / "detector", other_run / "detector"]
    out = run(*detectors, "--output", tmp_path, *LIGHT)
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert [item["name"] for item in found["detectors"]] == ["tiny", "other"]
    for name in ("tiny", "other"):
        results = json.loads((tmp_path / name / "results.json").read_text())
        assert results["detector"]["name"] == name
        assert results["checks"]["transfer_weaker"]["detail"]
        assert name in out
    assert (tmp_path / "comparison.html").is_file()
    assert (tmp_path / "epsilon.png").is_file()
    pair = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("tiny", "other")]
    assert pair[0]["attack"] == pair[1]["attack"]
    assert pair[0]["id"] == pair[1]["id"]


def test_a_detector_named_twice_is_told_apart_or_refused(fail, run, tiny_run, tmp_path):
    detector = tiny_run.folder / "detector"
    assert "another detector is called tiny" in fail(detector, detector)


def test_report_of_another_detector_is_left_alone(fail, run, tiny_run, other_run, tmp_path):
    shutil.copytree(tiny_run.folder / "report", tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "results.json").read_bytes()
    line = fail(other_run / "detector", "--output", tmp_path, "evaluate.limit=5")
    assert "holds the report of another detector (tiny in" in line
    assert "--output" in line
    assert (tmp_path / "results.json").read_bytes() == before
    run(tiny_run.folder / "detector", "--output", tmp_path, *LIGHT)


def test_a_process_that_is_gone_ends_the_evaluation_with_one_line(
    run, tiny_run, tmp_path, monkeypatch, capsys
):
    class Pair(processes.Processes):
        """The first of two processes, the other of which is gone."""

        def __init__(self, *options):
            super().__init__("cpu")
            self.count = 2

    def lost(*_, **options):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(processes, "Processes", Pair)
    monkeypatch.setattr("atd.assessment.evaluate_detectors", lost)
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit) as ended:
        run(tiny_run.folder / "detector", "--output", tmp_path)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: rank 0: lost contact with rank 1 in the evaluation;")


def test_no_detector_is_the_users_mistake(fail):
    assert "at least one detector" in fail("evaluate.limit=5")


@pytest.mark.slow
def test_strong_tier_and_l2_run(run, tiny_run, tmp_path, monkeypatch):
    detector = tiny_run.folder / "detector"
    small = ["evaluate.limit=4", "evaluate.steps=2", "evaluate.baselines=[msp]"]
    run(detector, "evaluate.tier=strong", *small, "--output", tmp_path / "strong")
    attack = json.loads((tmp_path / "strong" / "results.json").read_text())["attack"]
    assert attack["members"] == [
        "pgd-2x1", "apgd-2x5", "features-2x1", "transfer-2x1", "square-1000x1"
    ]  # fmt: skip
    said = []
    monkeypatch.setattr("atd.assessment.notice", said.append)
    run(detector, "evaluate.norm=l2", *small, "--output", tmp_path / "l2")
    assert any("that of L-inf, which is next to nothing in L2; name one" in line for line in said)
    results = json.loads((tmp_path / "l2" / "results.json").read_text())
    assert results["attack"]["norm"] == "l2"
    assert "square_weaker" not in results["checks"]


@pytest.fixture
def copied_run(tiny_run, tmp_path):
    """The tiny run's detector and report, without its state."""
    for name in ("detector", "report"):
        shutil.copytree(tiny_run.folder / name, tmp_path / "run" / name)
    return tmp_path / "run"


def test_a_detector_is_judged_where_its_training_images_are_not(
    run, copied_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    out = run(
        copied_run / "detector",
        "data.id=folder:nowhere",
        "data.id_test=bundled:digits",
        "data.outliers=folder:nowhere_either",
        "evaluate.steps=1",
        "evaluate.limit=6",
        "evaluate.baselines=[msp,mahalanobis]",
        "--output",
        tmp_path / "out",
    )
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    told = "\n".join(results["left_out"])
    assert "accelerate launch --dynamo_backend=INDUCTOR is ignored" in told
    assert "overlap of the test sets with data.id: not checked" in told
    assert "overlap of the test sets with data.outliers: not checked" in told
    assert "baseline mahalanobis: it is fitted on ID training images" in told
    assert "held-out ID images: not given; the detector's own threshold is used" in told
    assert results["baselines"].keys() == {"msp"}
    assert (
        results["threshold"]["value"] == Detector.from_pretrained(copied_run / "detector").threshold
    )
    assert "left out: baseline mahalanobis" in out
    report = (tmp_path / "out" / "report.md").read_text()
    assert "What was left out" in report


def test_other_sets_get_a_report_of_their_own(run, copied_run):
    before = (copied_run / "report" / "results.json").read_bytes()
    run(copied_run / "detector", *LIGHT, "data.ood_test=[bundled:capitals]", "data.outliers=")
    assert (copied_run / "report" / "results.json").read_bytes() == before
    (other,) = copied_run.glob("report-*")
    assert "capitals" in json.loads((other / "results.json").read_text())["datasets"]
    word = str(copied_run / "detector")
    same = load_candidates([word], [])
    same.claim(None, recorded_config(same.first, word, ()))
    assert same.output == copied_run / "report"


def test_a_gate_ends_with_three_and_a_line_for_each_condition(run, copied_run, capsys):
    words = [copied_run / "detector", *LIGHT, "--output", copied_run / "gate"]
    run(*words, "--require", "clean.auroc>=0", "--require", "threshold.tpr_clean<=1")
    with pytest.raises(SystemExit) as ended:
        run(*words, "--require", "clean.auroc>1", "--require", "lowercase.both.fpr95_id<0")
    assert ended.value.code == 3
    told = capsys.readouterr().err.splitlines()
    first, second = (line for line in told if line.startswith("not met"))
    assert first.startswith("not met: clean.auroc>1: it is ")
    assert second.startswith("not met: lowercase.both.fpr95_id<0: it is ")


def test_a_gate_with_a_typo_is_the_users_mistake(fail, copied_run):
    detector = copied_run / "detector"
    assert "did you mean both.auroc?" in fail(detector, "--require", "both.aurok>=0.5")
    line = fail(detector, *LIGHT, "--require", "lowercas.both.auroc>=0.5")
    assert "did you mean lowercase.both.auroc?" in line


def test_ones_own_module_is_judged_by_name(run, tmp_path, monkeypatch):
    (tmp_path / "my_own_scores.py").write_text(
        "import torch\n\nclass Mine(torch.nn.Module):\n"
        "    def forward(self, images):\n        return -images.flatten(1).std(1)\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["data.image_size=8", "data.channels=1", "data.id=bundled:digits"]
    words += ["data.ood_test=[bundled:lowercase]", "run.device=cpu", "evaluate.tier=smoke"]
    run("import:my_own_scores:Mine", *words, *LIGHT, "--output", "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["detector"]["kind"] == "external"
    assert results["detector"]["name"] == "Mine"


@pytest.mark.parametrize("name", ["out", "out/scores"])
def test_a_file_where_a_folder_belongs_is_one_line(fail, copied_run, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    line = fail(copied_run / "detector", *LIGHT, "--output", tmp_path / "out")
    assert "is a file, not a folder; choose another --output" in line
    assert (tmp_path / name).read_text() == "mine"


def test_a_name_that_no_folder_can_have_is_one_line(fail, copied_run, tmp_path):
    line = fail(copied_run / "detector", *LIGHT, "--output", tmp_path / ("n" * 300))
    assert "cannot be written: File name too long; choose another --output" in line


def test_a_folder_that_takes_no_report_is_one_line(fail, copied_run):
    line = fail(copied_run / "detector", *LIGHT, "--output", "/proc/self/report")
    assert "cannot be written" in line


def test_somebody_elses_results_are_left_alone_and_damaged_ones_of_ours_made_again(
    fail, run, copied_run, tmp_path
):
    file = tmp_path / "theirs" / "results.json"
    file.parent.mkdir()
    file.write_text("{}")
    line = fail(copied_run / "detector", *LIGHT, "--output", file.parent)
    assert "no results of an evaluation; choose another --output" in line
    assert file.read_text() == "{}"
    (copied_run / "report" / "results.json").write_text("damaged")
    run(copied_run / "detector", *LIGHT, "--output", copied_run / "report")
    assert json.loads((copied_run / "report" / "results.json").read_text())["schema"] == 1

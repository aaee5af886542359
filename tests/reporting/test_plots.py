from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from changed import with_results

from atd.evaluation.protocol import Evaluation
from atd.files import replacing
from atd.metrics import CONDITIONS
from atd.reporting.curves import epsilon_figure, steps_figure
from atd.reporting.examples import example_figure
from atd.reporting.plots import histogram_figure, roc_figure, save_plots, threshold_figure
from atd.reporting.wording import basis, curve_basis, percent


def with_scores(evaluation: Evaluation, change) -> Evaluation:
    """The same evaluation with other sets, and a threshold among their scores."""
    ood = {name: change(scored) for name, scored in evaluation.ood.items()}
    inside = change(evaluation.id_test)
    threshold = dataclasses.replace(evaluation.results.threshold, value=float(inside.clean.max()))
    results = dataclasses.replace(evaluation.results, threshold=threshold)
    return dataclasses.replace(evaluation, results=results, id_test=inside, ood=ood)


def grey_only(evaluation: Evaluation) -> Evaluation:
    """Images with one channel, scores all equal, and radius 0."""

    def plain(scored):
        same = np.zeros_like(scored.clean)
        pixels = scored.example_clean[:, :1]
        unchanged = (pixels / 255).astype(np.float32)
        images = {"example_clean": pixels, "example_attacked": unchanged}
        return dataclasses.replace(scored, clean=same, attacked=same, **images)

    found = with_scores(evaluation, plain)
    return with_results(found, lambda results: results["attack"].update(epsilon=0.0))


def two_values(evaluation: Evaluation) -> Evaluation:
    """Scores of a detector that is always certain."""

    def certain(scored):
        values = -5.0 * scored.direction * np.ones_like(scored.clean)
        values[:3] *= -1
        return dataclasses.replace(scored, clean=values, attacked=-values)

    return with_scores(evaluation, certain)


def euclidean(evaluation: Evaluation) -> Evaluation:
    found = with_scores(evaluation, lambda scored: scored)
    return with_results(found, lambda results: results["attack"].update(norm="l2", epsilon=0.5))


CHANGES = [lambda same: same, grey_only, two_values, euclidean]


@pytest.mark.parametrize("change", CHANGES)
def test_plots_of_usual_and_degenerate_evaluations(evaluation, tmp_path: Path, change) -> None:
    names = save_plots(change(evaluation), tmp_path)
    assert sorted(names) == sorted(file.name for file in tmp_path.iterdir())
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)


@pytest.mark.parametrize(
    "draw",
    [histogram_figure, roc_figure, threshold_figure, example_figure, epsilon_figure, steps_figure],
)
def test_every_picture_carries_attack_and_verdict(evaluation, draw) -> None:
    words = " ".join(draw(evaluation).get_supxlabel().split())
    results = evaluation.results
    assert any(
        text in words
        for text in (basis(results), curve_basis(results, "epsilon"), curve_basis(results, "steps"))
    )


def test_histograms_show_each_condition_and_the_threshold(evaluation) -> None:
    figure = histogram_figure(evaluation)
    places = [(item, name) for item in evaluation.results.datasets.values() for name in CONDITIONS]
    assert len(figure.axes) == len(places)
    for axis, (item, condition) in zip(figure.axes, places, strict=True):
        assert f"AUROC {percent(item[condition]['auroc'])} %" in axis.get_title()
        assert evaluation.results.threshold.value in [line.get_xdata()[0] for line in axis.lines]


@pytest.mark.parametrize("change", CHANGES)
def test_bars_of_both_sides_hold_every_image(evaluation, change) -> None:
    for axis in histogram_figure(change(evaluation)).axes:
        up, down = (patch.get_data().values for patch in axis.patches)
        assert (up >= 0).all()
        assert (down <= 0).all()
        np.testing.assert_allclose([(up**2).sum(), (down**2).sum()], 1.0)


def test_scores_that_gather_at_two_values_stay_visible(evaluation) -> None:
    axis = histogram_figure(two_values(evaluation)).axes[0]
    up, down = (patch.get_data().values for patch in axis.patches)
    # Three stray images on either side, drawn where the other side has its bulk.
    assert (up > 0.2).nonzero()[0].tolist() == [0, len(up) - 1]
    assert (down < -0.2).nonzero()[0].tolist() == [0, len(down) - 1]
    low, high = axis.get_ylim()
    assert low < down.min() < up.max() < high


def test_roc_curves_name_the_auroc_of_each_set(evaluation) -> None:
    figure = roc_figure(evaluation)
    for axis, condition in zip(figure.axes, ("clean", "both"), strict=True):
        labels = [text.get_text() for text in axis.get_legend().get_texts()]
        for label, (name, item) in zip(labels, evaluation.results.datasets.items(), strict=True):
            assert label == f"{name}: {item[condition]['auroc']:.1%}"


def test_threshold_curves_rise_through_the_stored_shares(evaluation) -> None:
    figure = threshold_figure(evaluation)
    (axis,) = figure.axes
    limit = evaluation.results.threshold
    stored, *lines = axis.lines
    assert stored.get_xdata()[0] == limit.value
    curves, points = lines[::2], lines[1::2]
    for curve in curves:
        assert (np.diff(curve.get_ydata()) >= 0).all()
    shares = [limit.tpr_clean, limit.tpr_attacked, limit.fpr_clean, limit.fpr_attacked]
    assert [point.get_ydata()[0] for point in points] == pytest.approx(shares)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"ID, attacked: {percent(limit.tpr_attacked)} % at the stored threshold" in labels


@pytest.mark.parametrize(("change", "unit"), [(lambda same: same, 1 / 255), (euclidean, 1.0)])
def test_epsilon_curves_are_those_of_the_results(evaluation, change, unit: float) -> None:
    changed = change(evaluation)
    (axis,) = epsilon_figure(changed).axes
    lines = {line.get_label(): line for line in axis.lines}
    points = changed.results.curves.epsilon
    for side, label in (("in", "in: ID"), ("out", "out: OOD"), ("both", "both")):
        (line,) = [line for name, line in lines.items() if name.startswith(label)]
        np.testing.assert_allclose(line.get_xdata(), [point["epsilon"] / unit for point in points])
        np.testing.assert_allclose(line.get_ydata(), [point[side] for point in points])
    at = lines["evaluated epsilon"].get_xdata()[0]
    assert at == pytest.approx(changed.results.attack.epsilon / unit)


def test_curves_can_be_told_apart_without_colour(evaluation) -> None:
    for draw in (epsilon_figure, steps_figure):
        (axis,) = draw(evaluation).axes
        lines = [line for line in axis.lines if line.get_marker() != "None"]
        assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 3


def test_steps_are_marked_where_they_were_tried(evaluation) -> None:
    (axis,) = steps_figure(evaluation).axes
    steps = [point["steps"] for point in evaluation.results.curves.steps]
    assert [text.get_text() for text in axis.get_xticklabels()] == [str(step) for step in steps]


def test_examples_show_the_worst_images_with_both_scores_and_decisions(evaluation) -> None:
    figure = example_figure(evaluation)
    titles = [axis.get_title() for axis in figure.axes]
    columns = len(titles) // 3
    scored, threshold = evaluation.id_test, evaluation.results.threshold.value
    index = max(scored.example_index, key=lambda at: scored.attacked[at])
    for title, score in ((titles[0], scored.clean), (titles[2 * columns], scored.attacked)):
        decision = "flagged" if score[index] > threshold else "accepted"
        assert title.endswith(f"{score[index]:.3g}, {decision}")
    shown = [title.split("\n")[0] for title in titles[:columns]]
    assert shown[:4] == ["ID: dark"] * 4
    assert {"OOD: bright|wide", "OOD: close"} == set(shown[4:])


def test_change_is_magnified_to_the_full_range_around_grey(evaluation) -> None:
    figure = example_figure(evaluation)
    columns = len(figure.axes) // 3
    changes = [axis.images[0].get_array() for axis in figure.axes[columns : 2 * columns]]
    farthest = max(float(np.abs(change - 0.5).max()) for change in changes)
    assert farthest == pytest.approx(0.5, abs=1e-3)
    still = example_figure(grey_only(evaluation)).axes
    np.testing.assert_array_equal(still[len(still) // 3].images[0].get_array(), 0.5)


def test_interrupted_write_leaves_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"

    def stopped_halfway() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_halfway()
    assert list(target.parent.iterdir()) == []

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from atd.evaluation.files import replacing
from atd.evaluation.plots import example_figure, histogram_figure, roc_figure, save_plots
from atd.evaluation.protocol import Evaluation


def grey_only(evaluation: Evaluation) -> Evaluation:
    """The same evaluation on images with one channel, scores all equal and radius 0."""

    def plain(scored):
        same = np.zeros_like(scored.clean)
        return dataclasses.replace(
            scored,
            clean=same,
            attacked=same,
            example_clean=scored.example_clean[:, :1],
            example_attacked=scored.example_attacked[:, :1],
        )

    results = evaluation.results | {"attack": evaluation.results["attack"] | {"epsilon": 0.0}}
    ood = {name: plain(scored) for name, scored in evaluation.ood.items()}
    return Evaluation(results, plain(evaluation.id_test), ood, evaluation.id_val)


@pytest.mark.parametrize("change", [lambda same: same, grey_only])
def test_plots_of_usual_and_degenerate_evaluations(evaluation, tmp_path: Path, change) -> None:
    names = save_plots(change(evaluation), tmp_path)
    assert sorted(names) == sorted(file.name for file in tmp_path.iterdir())
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)


def test_histograms_share_bins_and_show_the_threshold(evaluation) -> None:
    figure = histogram_figure(evaluation)
    assert len(figure.axes) == 2 * len(evaluation.ood)
    for axis in figure.axes:
        (line,) = axis.lines
        assert line.get_xdata()[0] == evaluation.results["threshold"]["value"]


def test_roc_curves_name_the_auroc_of_each_set(evaluation) -> None:
    figure = roc_figure(evaluation)
    for axis, condition in zip(figure.axes, ("clean", "both"), strict=True):
        labels = [text.get_text() for text in axis.get_legend().get_texts()]
        for label, (name, item) in zip(labels, evaluation.results["datasets"].items(), strict=True):
            assert label == f"{name}: {item[condition]['auroc']:.1%}"


def test_examples_show_both_scores_and_the_radius(evaluation) -> None:
    figure = example_figure(evaluation)
    titles = [axis.get_title() for axis in figure.axes]
    scored = evaluation.id_test
    index = scored.example_index[0]
    assert titles[0] == f"dark\nscore {scored.clean[index]:.2f}"
    assert titles[12] == f"score {scored.attacked[index]:.2f}"
    assert "8/255" in figure.get_supxlabel()


def test_interrupted_write_leaves_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"

    def stopped_halfway() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_halfway()
    assert list(target.parent.iterdir()) == []

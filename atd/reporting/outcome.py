"""The report of an evaluation as an object: to read, to show in a notebook, to save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atd.evaluation.certified import Certificate
from atd.evaluation.checks import Check
from atd.evaluation.jobs import ScoredSet
from atd.evaluation.protocol import Evaluation
from atd.evaluation.results import Baseline, Dataset, Means, Results, Threshold
from atd.reporting.html import fragment
from atd.reporting.page import page
from atd.reporting.report import summary_table, write_report

__all__ = ["Report"]


@dataclass(frozen=True, repr=False)
class Report:
    """What an evaluation found.

    Attributes:
        evaluation: Results and scores.

    Example:
        >>> report = atd.evaluate(detector, id_test=x, ood={"noise": z})  # doctest: +SKIP
        >>> report.mean["both"]["auroc"]  # doctest: +SKIP
    """

    evaluation: Evaluation

    @property
    def results(self) -> Results:
        """Everything that `results.json` holds."""
        return self.evaluation.results

    @property
    def mean(self) -> Means:
        """Mean metrics over the far sets: `mean["both"]["auroc"]`."""
        return self.results.mean

    @property
    def mean_near(self) -> Means:
        """Mean metrics over the near sets; empty where there is none."""
        return self.results.mean_near

    @property
    def datasets(self) -> Mapping[str, Dataset]:
        """Metrics of every OOD set: `datasets["noise"]["both"]["auroc"]`."""
        return self.results.datasets

    @property
    def threshold(self) -> Threshold:
        """The threshold, and the shares of images that it accepts."""
        return self.results.threshold

    @property
    def baselines(self) -> Mapping[str, Baseline]:
        """What was found on the baselines, by name."""
        return self.results.baselines

    @property
    def checks(self) -> Mapping[str, Check]:
        """Signs that the numbers are too good to be true."""
        return self.results.checks

    @property
    def verdict(self) -> str:
        """One line: the numbers can be trusted, or which checks speak against it."""
        return self.results.verdict

    @property
    def certificate(self) -> Certificate | None:
        """What no attack in L2 can take away, where it was asked for."""
        return self.results.certificate

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was asked for and not done, each with the reason."""
        return self.results.left_out

    @property
    def scores(self) -> Mapping[str, ScoredSet]:
        """Scores of every image, clean and attacked: of `id_test`, and of each OOD set by name."""
        return {"id_test": self.evaluation.id_test, **self.evaluation.ood}

    def save(self, folder: str | Path) -> Path:
        """Writes the report folder: numbers, scores, pictures and pages.

        Args:
            folder: Where; it is made where it is missing.

        Returns:
            The path of `report.md`.
        """
        return write_report(self.evaluation, Path(folder))

    def __repr__(self) -> str:
        return summary_table(self.results)

    def _repr_html_(self) -> str:
        """The page's text and tables, for notebooks."""
        return fragment(page(self.results))

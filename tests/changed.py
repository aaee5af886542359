"""Results of an evaluation with some values replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from atd.evaluation.protocol import Evaluation
from atd.evaluation.results import Results


def with_results(evaluation: Evaluation, change: Callable[[dict[str, Any]], Any]) -> Evaluation:
    """The evaluation after a change of its results as JSON, made in place."""
    found = evaluation.results.to_json()
    change(found)
    return dataclasses.replace(evaluation, results=Results.from_json(found))
